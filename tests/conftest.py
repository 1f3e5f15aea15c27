"""Makes the packages under tests importable from every test."""
