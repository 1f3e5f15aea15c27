"""Follows a job to its end: its progress, its views and its tasks' output."""
