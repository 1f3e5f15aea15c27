"""The commands, one module each, and the parts that only one of them uses."""
