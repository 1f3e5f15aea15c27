"""Reads the read models: lists, single items, events, and jobs at earlier times."""
