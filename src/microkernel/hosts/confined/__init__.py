"""Shared by ``sandbox`` and ``wasm``: confinement of a worker, checks of it, and what the kernel does on its behalf."""
