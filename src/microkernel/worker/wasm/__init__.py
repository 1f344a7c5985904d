"""The level ``wasm``: a worker that runs its plugin in a WebAssembly guest."""
