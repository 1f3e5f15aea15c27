"""What is asked of a manager and a storage proxy over HTTP, typed."""
