"""Finds the server that a command talks to, or runs one."""
