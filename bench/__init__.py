"""Measurements, as ratios. ``./run bench``; docs/benchmarks.md says how it measures and what each floor is."""
