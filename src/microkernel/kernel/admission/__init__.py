"""What a plugin may do: the gate, permissions, approvals, and the configuration that applies to it."""
