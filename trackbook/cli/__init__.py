"""The trackbook command."""
