"""Floor 1: what a plugin sees, and the loop that runs an instance. The same code at every level."""

from microkernel.sdk.api import PluginAPI, Say
from microkernel.sdk.buffer import Buffer
from microkernel.sdk.decorators import every, expose, on
from microkernel.sdk.event import Event, Reply, Subscription
from microkernel.sdk.plugin import IPlugin, Secret

__all__ = [
    "Buffer", "Event", "IPlugin", "PluginAPI", "Reply", "Say", "Secret", "Subscription", "every", "expose", "on",
]  # fmt: skip
