"""Start children, watch them, and restart them."""
