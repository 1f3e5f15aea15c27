"""What executors share: attempt state, folders, logs, the environment of tasks, reports."""
