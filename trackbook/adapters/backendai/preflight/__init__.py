"""What would fail on a cluster, found before a run and by `trackbook doctor`."""
