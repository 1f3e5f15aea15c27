"""What happens to a connection and a request before an endpoint sees it, and the server that listens."""
