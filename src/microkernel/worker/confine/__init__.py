"""The confinement of a worker: Landlock, seccomp, privileges."""
