"""The way of a message: ingress, calls, asks, registration, and the data store."""
