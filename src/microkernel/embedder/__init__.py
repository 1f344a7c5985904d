"""What the embedding program does with a kernel: handlers of its own, calls, and the options it gives."""
