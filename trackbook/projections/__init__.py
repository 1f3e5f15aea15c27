"""Read models: events to rows, and the finders that HTTP and CLI read."""
