"""The level ``wasm``."""

from microkernel.hosts.wasm.host import WasmHost

__all__ = ["WasmHost"]
