"""Backups: made of a running system, and restored."""
