"""Sessions and folders on Backend.AI clusters, by their managers' HTTP API."""
