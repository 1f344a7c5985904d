"""The control socket: how another terminal reaches a running kernel.

Whoever connects says hello and is an instance like any other, with ``kernel.control``: the same messages, the same
gate. The server is driven by the kernel's reactor and never waits; the client's end is for one thread.
"""
