"""The only copy of the configuration in force."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from microkernel.kernel.admission.weakening import check_configuration
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import Level, Manifest


class ConfigSource:
    """Holds the configuration in force. ``current`` may be called on any thread.

    ``reread`` reads the operator's file again; None if there is none.
    """

    def __init__(
        self, config: KernelConfig, override: Level | None = None, reread: Callable[[], KernelConfig] | None = None
    ) -> None:
        self._current = config
        self._override = override
        self._reread = reread

    def current(self) -> KernelConfig:
        return self._current

    def read_from(self, reread: Callable[[], KernelConfig]) -> None:
        """Replace ``reread``, if the embedding program completes the configuration of the file."""
        self._reread = reread

    def refresh(self, manifests: Iterable[Manifest]) -> None:
        """Read the configuration again. It applies to future starts; running instances keep theirs.

        The places of plugins, and their groups, stay as they were. Raises ConfigError MK0721 if the file has lost a
        protection.
        """
        if self._reread is None:
            return
        now = replace(self._reread(), plugins=self._current.plugins, group=self._current.group)
        check_configuration(self._current, now, list(manifests), self._override)
        self._current = now
