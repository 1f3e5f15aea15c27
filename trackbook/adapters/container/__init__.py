"""Sessions in containers, through the Docker Engine API of Docker or Podman."""
