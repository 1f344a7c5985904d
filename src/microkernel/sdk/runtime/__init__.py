"""The loop that runs one instance: handlers, timers, threads and background tasks."""
