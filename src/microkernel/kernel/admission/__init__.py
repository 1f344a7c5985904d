"""Decide the permissions of plugins: the gate, approvals, limits, and the configuration in force."""
