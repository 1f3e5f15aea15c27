"""Benchmarks: the workloads W1 to W5 and real workflow graphs, beside their floors and, where given, rivals."""
