"""What an operator asks for: start, stop, kill, reload."""
