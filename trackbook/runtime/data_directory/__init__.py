"""The data directory: its files, its lock, its format and its identity."""
