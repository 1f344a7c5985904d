"""What parses the files of plugins: in a process of its own, with bounds on time and memory. Standard library alone."""
