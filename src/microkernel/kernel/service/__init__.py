"""The service ``kernel``: operations that users may call."""
