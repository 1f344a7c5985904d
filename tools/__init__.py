"""What the linters need beside their own rules."""
