"""The configured executors: from executors.toml, loaded again when it changes."""
