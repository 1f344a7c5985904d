"""The interface that every plugin implements, and the marker for secret configuration fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microkernel.sdk.api import PluginAPI


class IPlugin(ABC):
    """Base class of every plugin's ``class Plugin``.

    ``__init__`` receives the PluginAPI and only registers. Events, calls and timers arrive after ``start`` has
    returned. ``start`` and ``stop`` may be ``async``.

    Optionally, ``export_state() -> value`` and ``import_state(state, from_version)`` carry state over a reload. The
    state is a value as every payload is; ``from_version`` is the version of the plugin that exported it.
    """

    api: PluginAPI

    def __init__(self, api: PluginAPI) -> None:
        self.api = api

    @abstractmethod
    def start(self) -> Any:
        """Start working. If it raises, or takes longer than ``limits.start`` seconds, the plugin becomes ``failed``."""

    def stop(self) -> Any:
        """Stop working, within ``limits.stop`` seconds. An exception is logged; the plugin stops regardless.

        The default does nothing, because the kernel removes subscriptions and timers, and cancels spawned tasks.
        """
        return None


class Secret:
    """Marks a configuration field as secret: ``key: Annotated[str, Secret]``.

    The kernel replaces its value by ``***`` in logs, output and errors of the plugin.
    """
