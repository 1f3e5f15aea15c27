"""Read endpoints, live stream and command gateway over HTTP."""
