"""Mailboxes, deliveries, the index of topics, the event bus, shared buffers, and quotas."""
