"""Records of plugins, their states, and their instances."""
