"""Floor 2: one adapter of ``ports.Host`` for each level of isolation. They are loaded by name, and know no sibling."""
