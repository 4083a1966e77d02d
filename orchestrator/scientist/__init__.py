"""Who decides what to run next."""
