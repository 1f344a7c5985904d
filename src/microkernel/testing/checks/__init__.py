"""The clauses of the contract, by subject. Each function ``check_x(workspace)`` is one clause."""
