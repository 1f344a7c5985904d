"""Ordinary plugins that ship with microkernel: each on the public SDK, none knows another."""
