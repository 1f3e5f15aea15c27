"""The pure core: decide, evolve, react. No clock, randomness, I/O or frameworks."""
