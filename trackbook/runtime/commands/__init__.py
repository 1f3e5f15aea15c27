"""Commands of clients: requests, the gateway, and a handler for each."""
