"""A sandboxed plugin that does its worst, and what the kernel's other users notice of it."""
