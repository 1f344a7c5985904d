"""Turn functions with type hints into handlers and methods with checked arguments."""
