"""NATS JetStream: the event store, blobs, the embedded broker, command ingress."""
