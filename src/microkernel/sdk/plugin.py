"""The contract of a plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microkernel.sdk.api import PluginAPI


class IPlugin(ABC):
    """What every plugin's ``class Plugin`` derives from.

    ``__init__`` registers and nothing else; events and calls come after ``start`` returned. Both ``start`` and ``stop``
    may be ``async``. A plugin that also has ``export_state() -> value`` and ``import_state(state, from_version)`` keeps
    its state over a reload; the state is a value, as every payload.
    """

    api: PluginAPI

    def __init__(self, api: PluginAPI) -> None:
        self.api = api

    @abstractmethod
    def start(self) -> Any:
        """Begin to work. What it raises makes the plugin ``failed``."""

    @abstractmethod
    def stop(self) -> Any:
        """End the work. Subscriptions, timers and spawned work are taken away by the kernel."""


class Secret:
    """Marks a configuration field as secret: ``key: Annotated[str, Secret]``. It is shown nowhere."""
