"""Pipelines from and to YAML."""
