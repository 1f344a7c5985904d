"""What only a wasm guest has: a codec without C, laid out there in the place of ``microkernel.wire.codec``."""
