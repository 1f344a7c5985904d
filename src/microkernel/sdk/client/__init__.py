"""Requests from an instance to the kernel, over its channel."""
