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
        """Start working. If it raises, or takes longer than ``limits.start`` seconds, the plugin becomes ``failed``.

        If it raises NotReady, it is called again later, on a new instance.
        """

    def stop(self) -> Any:
        """Stop working, within ``limits.stop`` seconds. An exception is logged; the plugin stops regardless.

        The default does nothing, because the kernel removes subscriptions and timers, and cancels spawned tasks.
        """
        return None


class NotReady(Exception):
    """Raised in ``start`` by a plugin that cannot work yet: ``raise NotReady(retry_after=5.0, reason="db is down")``.

    The plugin is ``waiting`` and is started again after ``retry_after`` seconds (0.1 to 86400), by default after 1 s,
    which doubles with each attempt up to 60 s. Its restart budget is not charged. In a reload it is a failed start.
    """

    def __init__(self, reason: str = "", *, retry_after: float | None = None) -> None:
        if retry_after is not None and not 0.1 <= retry_after <= 86_400:
            raise ValueError(f"retry_after must be 0.1 to 86400 seconds, got {retry_after!r}")
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Secret:
    """Marks a configuration field as secret: ``key: Annotated[str, Secret]``.

    The kernel replaces its value by ``***`` in logs, output and errors of the plugin.
    """
