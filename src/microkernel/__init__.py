"""A small kernel that runs plugins, each in the isolation you choose, and survives their failures."""

from typing import TYPE_CHECKING, Any

from microkernel import errors

if TYPE_CHECKING:
    from microkernel.app import Kernel, KernelConfig
    from microkernel.sdk import (
        Buffer,
        Event,
        IPlugin,
        NotReady,
        PluginAPI,
        Reply,
        Secret,
        Subscription,
        every,
        expose,
        on,
    )

__version__ = "0.1.0"
__all__ = [
    "Buffer",
    "Event",
    "IPlugin",
    "Kernel",
    "KernelConfig",
    "NotReady",
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


def leave_out_embedding() -> None:
    """Leave the names that only an embedding program uses out of ``__all__``.

    So ``from microkernel import *`` works in a worker, which does not load the kernel.
    """
    __all__[:] = [name for name in __all__ if name not in _HOMES]


def __getattr__(name: str) -> Any:
    """Load a public name at first use: a worker never loads the kernel, and a script that embeds it never loads the
    SDK."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES.get(name, "microkernel.sdk")), name)
    return value
