"""Benchmarks of the kernel as ratios to floors and peers: ``./run bench``, described in docs/benchmarks.md."""
