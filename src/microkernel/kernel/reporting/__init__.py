"""Reports of the kernel: the journal, information about plugins, and message texts."""
