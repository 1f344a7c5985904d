"""The code that only a wasm guest runs: a codec without C, which replaces ``microkernel.wire.codec`` there."""
