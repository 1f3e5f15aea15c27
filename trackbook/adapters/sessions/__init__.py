"""What executors have in common: folders, what a task sees, reporting."""
