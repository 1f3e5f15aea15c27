"""Requests to a server over HTTP, with retries, and streams that resume."""
