"""A small kernel that runs plugins, each in the isolation you choose, and survives their failures."""

from typing import TYPE_CHECKING, Any

from microkernel import errors

if TYPE_CHECKING:
    from microkernel.app import Kernel, KernelConfig
    from microkernel.sdk import Buffer, Event, IPlugin, PluginAPI, Reply, Secret, Subscription, every, expose, on

__version__ = "0.1.0"
__all__ = [
    "Buffer",
    "Event",
    "IPlugin",
    "Kernel",
    "KernelConfig",
    "PluginAPI",
    "Reply",
    "Secret",
    "Subscription",
    "errors",
    "every",
    "expose",
    "on",
]

_HOMES = {"Kernel": "microkernel.app", "KernelConfig": "microkernel.app"}


def __getattr__(name: str) -> Any:
    """Load a public name at first use: a worker never loads the kernel, and a script that embeds it never loads the
    SDK."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES.get(name, "microkernel.sdk")), name)
    return value
