"""The level ``thread``."""

from microkernel.hosts.thread.host import ThreadHost

__all__ = ["ThreadHost"]
