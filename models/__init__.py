"""Learned models, one equation a file. Nothing here knows files, truth or the engine."""
