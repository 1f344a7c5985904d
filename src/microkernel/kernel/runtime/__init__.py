"""The reactor's thread, what wakes it, threads for work that waits, and the clock."""
