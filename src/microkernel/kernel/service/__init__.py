"""What users may ask the kernel for: the service ``kernel``."""
