"""Writes the read models: follows the log and stores rows, resulting states and the checkpoint together."""
