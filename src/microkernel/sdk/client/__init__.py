"""What an instance asks of the kernel, over its channel."""
