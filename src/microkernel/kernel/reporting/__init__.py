"""What the kernel reports: the journal, information about plugins, and message texts."""
