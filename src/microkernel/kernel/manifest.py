"""A plugin's manifest, in which it declares its requests. Plain data that the loader reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Literal

from microkernel.errors import ConfigError
from microkernel.wire.light_dataclasses import dataclass

Level = Literal["thread", "process", "sandbox", "wasm"]
Restart = Literal["permanent", "transient", "temporary"]

# From the least to the most isolated.
LEVELS: tuple[Level, ...] = ("thread", "process", "sandbox", "wasm")
NAME = re.compile(r"[a-z][a-z0-9_-]*")
# Calls of the service ``kernel`` for which ``kernel = ["observe"]`` is enough; the others need ``control``.
OBSERVING = frozenset({
    "kernel.list", "kernel.info", "kernel.logs", "kernel.dead", "kernel.names", "kernel.source", "kernel.sources",
    "kernel.tell", "kernel.explain", "kernel.glossary", "kernel.review", "kernel.listeners",
})  # fmt: skip

# The version of a manifest without one.
NO_VERSION: Final = "0.0.0"


@dataclass(frozen=True, slots=True)
class Permissions:
    """Permissions of a plugin: patterns, or ``None`` for everything (only if there is no permissions table)."""

    emit: tuple[str, ...] | None = None
    on: tuple[str, ...] | None = None
    call: tuple[str, ...] | None = None
    data_read: tuple[str, ...] | None = None
    data_write: tuple[str, ...] | None = None
    kernel: tuple[Literal["observe", "control"], ...] = ()
    net: tuple[str, ...] = ()
    fs_read: tuple[str, ...] = ()
    fs_write: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    # Approved limits above the defaults, such as ``memory 1GiB``. Never in a manifest's permissions table, because they
    # follow from its ``limits`` and ``supervision``.
    limits: tuple[str, ...] | None = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for a text in place of a tuple.

        It would be one pattern for each character, so ``"/srv"`` would allow the whole disk.
        """
        for key in self.__slots__:
            if isinstance(value := getattr(self, key), str):
                wanted = "a tuple of texts"
                raise ConfigError(
                    "MK0110", path="Permissions", key=key, wanted=wanted, got=f"the text {value!r}", suggestion=""
                )


NO_PERMISSIONS = Permissions((), (), (), (), ())


@dataclass(frozen=True, slots=True)
class Approval:
    """An operator's approval of one plugin: ``permissions`` for the files of this ``digest``, which declared this
    ``version``. ``files``: SHA-256 by path, if they are few enough to be listed."""

    version: str
    digest: str
    permissions: Permissions
    files: Mapping[str, str] = field(default_factory=dict)
    # The plugin's path, as returned by ``place_of``; empty in a lock of an older version.
    path: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds (0: none; ``drain``: no draining), and sizes in bytes (0: none). A level reports the limits
    that it cannot enforce."""

    load: float = 10.0
    start: float = 10.0
    drain: float = 5.0
    stop: float = 5.0
    kill_grace: float = 2.0
    handler: float = 60.0
    heartbeat: float = 2.0
    probation: float = 0.0
    mailbox: int = 10_000
    kernel_memory: int = 64 * 1024 * 1024
    shared_memory: int = 1024 * 1024 * 1024
    full_mailbox_timeout: float = 1.0
    max_deliveries: int = 3
    memory: int = 0
    files: int = 0
    file_size: int = 0
    cpu: float = 0.0
    processors: float = 0.0
    threads: int = 0
    disk: int = 0
    frames: int = 0
    handlers: int = 0
    methods: int = 0
    keys: int = 0
    lines: int = 0


# Limits at ``sandbox`` and ``wasm``, unless the manifest or the operator sets them.
CONFINED_LIMITS: Final[Mapping[str, float]] = {
    "memory": 512 << 20, "files": 256, "file_size": 64 << 20, "threads": 64, "disk": 1024 << 20, "frames": 250_000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Supervision:
    restart: Restart = "permanent"
    intensity: int = 5
    period: float = 30.0
    backoff: float = 0.1
    backoff_max: float = 10.0


@dataclass(frozen=True, slots=True)
class Determinism:
    """Fixed clock and random numbers of a wasm guest.

    ``clock``: time of day, in seconds since 1970, at which its clock stands; None for the machine's clock. ``seed`` of
    all its random numbers; None for the machine's.
    """

    clock: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A plugin's manifest. ``isolation`` None: the operator's default. ``permissions`` None: no permissions table."""

    name: str
    version: str = NO_VERSION
    description: str = ""
    isolation: Level | None = None
    enabled: bool = True
    requires: tuple[str, ...] = ()
    # Plugins that start before it, if they are there; it starts without them too (as ``Wants=`` of systemd).
    wants: tuple[str, ...] = ()
    requires_python: str = ""
    dependencies: tuple[str, ...] = ()
    concurrency: int = 1
    permissions: Permissions | None = None
    limits: Limits = field(default_factory=Limits)
    supervision: Supervision = field(default_factory=Supervision)
    determinism: Determinism = field(default_factory=Determinism)
    config: Mapping[str, Any] = field(default_factory=dict)
