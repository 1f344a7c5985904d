"""What widely used libraries do at each level: ``./run libraries``."""
