"""SQLite beside the log: what the engine may throw away and read again."""
