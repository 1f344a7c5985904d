"""From type hints and decorators to handlers and methods with checked arguments."""
