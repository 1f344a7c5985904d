"""Layer 1: the API for plugins, and the loop that runs an instance. The same code at every isolation level."""

from microkernel.sdk.api import PluginAPI, UserMessages
from microkernel.sdk.buffer import Buffer
from microkernel.sdk.decorators import every, expose, on
from microkernel.sdk.event import Event, Reply, Subscription
from microkernel.sdk.plugin import IPlugin, NotReady, Secret

__all__ = [
    "Buffer",
    "Event",
    "IPlugin",
    "NotReady",
    "PluginAPI",
    "Reply",
    "Secret",
    "Subscription",
    "UserMessages",
    "every",
    "expose",
    "on",
]
