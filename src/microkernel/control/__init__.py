"""The control socket: how another terminal reaches a running kernel.

A client sends a Hello and becomes an instance like any other, with the permission ``kernel.control``: the same
messages, the same gate. The server is driven by the kernel's reactor and never blocks. A client is for one thread.
"""
