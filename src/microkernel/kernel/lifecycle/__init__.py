"""Launch an instance, terminate it, and clean up after it."""
