"""What reaches the terminal: text, tables, escapes, errors, and streams that can fail."""
