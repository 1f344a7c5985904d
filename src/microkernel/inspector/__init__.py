"""Parses the files of plugins in a separate process, with bounds on time and memory. Standard library alone."""
