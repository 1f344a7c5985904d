"""Layer 0: frames, messages, codec, session. Turns bytes into messages; knows no roles, threads or sockets."""
