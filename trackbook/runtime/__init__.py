"""The composition root, command handling and the owners of aggregates."""
