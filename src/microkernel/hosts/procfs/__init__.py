"""What ``/proc`` reports about processes, and ending whole trees of them."""
