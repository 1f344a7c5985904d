"""Floor 0: frames, messages, codec, session. Bytes in, messages out; knows no role, no thread, no socket."""
