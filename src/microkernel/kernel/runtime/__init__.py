"""The reactor's thread, its wake-up, threads for work that waits, and the clock."""
