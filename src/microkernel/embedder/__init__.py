"""The embedding program's side of a kernel: its handlers, calls and buffers."""
