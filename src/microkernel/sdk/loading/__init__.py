"""Import a plugin's modules and read its configuration."""
