"""Durable files: the journal and atomic whole-file writes."""
