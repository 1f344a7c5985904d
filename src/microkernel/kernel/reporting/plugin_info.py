"""Information about plugins, as users see it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import field
from typing import Any

from microkernel.errors import InvalidArguments, KernelError
from microkernel.kernel.admission.permissions import fields_of
from microkernel.kernel.manifest import NO_PERMISSIONS, Permissions
from microkernel.kernel.ports import Snapshot
from microkernel.kernel.registry.record import PluginRecord
from microkernel.wire.codec import Raw, decode
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.skipping import skip
from microkernel.wire.texts import path_value


@dataclass(frozen=True, slots=True, repr=False)
class PluginInfo:
    """Snapshot of a plugin.

    ``up``: seconds in the present state. ``memory`` in bytes and ``cpu`` in seconds, None if unknown. ``protections``
    maps each protection to enforced, watched or unavailable.
    """

    name: str
    version: str
    state: str
    isolation: str
    generation: int
    pid: int | None
    restarts: int
    error: str | None
    protections: Mapping[str, str]
    path: str = ""
    doc: str = ""
    requires: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    # Seconds until the next start of a plugin that waits or is in backoff.
    next_start: float | None = None
    up: float = 0.0
    memory: int | None = None
    cpu: float | None = None
    events: int = 0
    calls: int = 0
    emitted: int = 0
    waiting: int = 0
    dropped: int = 0
    refused: int = 0
    dead: int = 0
    # Each method's parameters as written; ``returns`` has its return annotation, ``docs`` its docstring.
    methods: Mapping[str, str] = field(default_factory=dict)
    returns: Mapping[str, str] = field(default_factory=dict)
    docs: Mapping[str, str] = field(default_factory=dict)
    schemas: Mapping[str, Any] = field(default_factory=dict)
    topics: tuple[str, ...] = ()
    # Permissions of a running plugin; ``asked`` has those that a held plugin declares.
    permissions: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    error_id: str | None = None
    error_fields: Mapping[str, Any] = field(default_factory=dict)
    traceback: str = ""
    # ``reason`` of the last crash, and ``stack``, the stacks of its threads, if known. Kept after a restart.
    last_death: Mapping[str, str] = field(default_factory=dict)
    built_in: bool = False
    # Bytes that the kernel keeps for the plugin, by purpose. Each is bounded by ``limits.kernel_memory``, except memory
    # lent for Buffers (``shared``), which is bounded by ``limits.shared_memory``.
    kept: Mapping[str, int] = field(default_factory=dict)
    # Plugins that it calls on a direct channel.
    direct: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return one line with the main fields. ``dataclasses.asdict`` has all of them."""
        shown = ("name", "version", "state", "isolation", "generation", "pid", "restarts", "error_id")
        pairs = ((name, getattr(self, name)) for name in shown)
        return f"PluginInfo({', '.join(f'{name}={value!r}' for name, value in pairs if value is not None)})"


@dataclass(frozen=True, slots=True)
class PluginSource:
    """A plugin's file or folder, with the facts needed to decide how to react to a change of it.

    ``path`` is bytes if it is not valid Unicode; ``os.fsdecode`` accepts both.
    """

    name: str
    path: str | bytes
    state: str
    requires: tuple[str, ...]
    error_id: str | None
    built_in: bool


@dataclass(frozen=True, slots=True)
class Sources:
    """Sources of all plugins. ``places``: where the kernel looks for plugins, as absolute paths or entry points.

    Paths are as in PluginSource.path.
    """

    places: tuple[str | bytes, ...]
    plugins: tuple[PluginSource, ...]


def read_of(record: PluginRecord) -> dict[str | bytes, str]:
    """Return the SHA-256 of each source file as it was read, by path (see PluginSource.path).

    It is that of the running code, which may differ from the files on the disk by now.
    """
    snapshot = record.snapshot
    if snapshot is None:
        return {}
    import hashlib

    return {
        path_value(os.path.join(snapshot.root, name)): hashlib.sha256(data).hexdigest()
        for name, data in snapshot.sources.items()
    }


def sources_of(places: Iterable[str], records: Iterable[PluginRecord]) -> Sources:
    """Return the places and the sources of plugins, for a program that watches them."""
    absolute = [place if place.startswith("entry-point") else os.path.abspath(place) for place in places]
    plugins = tuple(_source_of(record) for record in records if not record.is_remote_client)
    return Sources(tuple(map(path_value, absolute)), plugins)


def source_path(record: PluginRecord, snapshot: Snapshot | None) -> str:
    """Return a plugin's own file or folder."""
    path = record.found.path
    if snapshot is None or os.path.isabs(path):
        return path
    return snapshot.root if snapshot.package else os.path.join(snapshot.root, snapshot.entry)


def _source_of(record: PluginRecord) -> PluginSource:
    """Return the source of a plugin. The path behind an entry point is known only once the source has been read."""
    path = source_path(record, record.snapshot)
    error = record.error.id if record.error is not None else None
    return PluginSource(record.name, path_value(path), record.state, record.manifest.requires, error, record.built_in)


# Characters of signatures, of docstrings and of schemas shown for one plugin: in a list, where a plugin that has
# registered megabytes of them must not displace the others, and by itself.
BRIEF = 32 * 1024
FULL = 1024 * 1024
# Bytes of values shown in one answer, for one plugin and for all. Decoded values take many times as much memory, and
# the size of an answer is bounded. One plugin's values must not displace those of others.
OF_ONE, OF_ALL = FULL, 8 * FULL
_MOST_VALUES = 10_000


class ShownValues:
    """Decodes values for display, as many as fit in one answer."""

    def __init__(self) -> None:
        self._left = OF_ALL
        self._left_of: dict[str, int] = {}

    def has_room(self, owner: str, size: int) -> bool:
        """Return whether ``size`` bytes still fit for this plugin, and charge them if so."""
        left = self._left_of.setdefault(owner, OF_ONE)
        if size > min(left, self._left):
            return False
        self._left_of[owner] = left - size
        self._left -= size
        return True

    def value(self, owner: str, data: bytes | Raw, attached: Sequence[str] = ()) -> Any:
        """Return the decoded value, or a text that says why it is not shown: too large, or invalid."""
        if not self.has_room(owner, len(data)):
            return f"<{len(data):,} bytes, too many to be shown here>"
        try:
            if len(data) > _MOST_VALUES and _count(bytes(data)) > _MOST_VALUES:
                return f"<{len(data):,} bytes of very many values>"
            return decode(data, attached=attached)
        except (InvalidArguments, ValueError):
            return f"<{len(data):,} bytes that are no value>"


def _count(data: bytes) -> int:
    """Count the values in encoded data without decoding it. An empty list takes one byte, but some fifty in memory."""
    counts: list[int] = []

    def count() -> Iterator[None]:
        _, values = yield from skip(data, 0)
        counts.append(values)

    for _ in count():
        continue
    return counts[0]


def describe(
    record: PluginRecord,
    now: float,
    on_board: int,
    lacking: KernelError | None = None,
    room: int = FULL,
    next_start: float | None = None,
) -> PluginInfo:
    """Return the information about a plugin.

    ``on_board``: bytes of its data keys. ``lacking``: error for a required plugin that it runs without. ``room``:
    characters for each kind of text chosen by the plugin.
    """
    instance, error, counts = record.instance, record.error or lacking, record.counts
    statistics = dict(instance.runner.statistics(recent=room < FULL)) if instance is not None else {}
    methods = sorted(record.methods.items())
    topics = {s.pattern: s.pattern for s in list(record.subscriptions.values()) if not s.watches_data}
    return PluginInfo(
        name=record.name,
        version=record.manifest.version,
        state=record.state,
        isolation=instance.level if instance is not None else record.level,
        generation=record.generation,
        pid=instance.runner.pid if instance is not None else None,
        restarts=record.restarts,
        error=str(error) if error is not None else None,
        protections=statistics.get("protections", {}),
        path=record.found.path,
        doc=record.doc[:room],
        requires=record.manifest.requires,
        wants=record.manifest.wants,
        next_start=None if next_start is None else round(next_start, 3),
        up=round(now - record.since, 3) if record.since else 0.0,
        memory=statistics.get("memory"),
        cpu=statistics.get("cpu"),
        events=counts.events,
        calls=counts.calls,
        emitted=counts.emitted,
        waiting=len(record.mailbox),
        dropped=counts.dropped,
        refused=counts.refused,
        dead=counts.dead,
        methods=_first({name: method.signature for name, method in methods}, room),
        returns=_first({name: method.returns for name, method in methods if method.returns}, room),
        docs=_first({name: method.doc for name, method in methods if method.doc}, room),
        schemas={name: _schema(data) for name, data in _first({n: m.schema for n, m in methods}, room).items()},
        topics=tuple(sorted(_first(topics, room))),
        permissions=_shown(record.instance.permissions) if record.instance is not None else {},
        asked=_shown(record.manifest.permissions or NO_PERMISSIONS) if record.state == "held" else {},
        last_death=_death(record.last_death),
        built_in=record.built_in,
        kept=_kept(record, on_board),
        direct=tuple(sorted({*instance.routes.values()})) if instance is not None else (),
        **_error_parts(error),
    )


def _first(texts: Mapping[str, Sized], room: int) -> dict[str, Any]:
    """Return the texts that fit in ``room``, in their order."""
    left, kept = room, {}
    for name, text in texts.items():
        left -= len(name) + len(text)
        if left >= 0:
            kept[name] = text
    return kept


def _schema(data: Raw) -> Any:
    """Return a decoded schema; empty if a worker sent an invalid one, so that the rest of the plugin is still shown."""
    try:
        return decode(data)
    except InvalidArguments:
        return {}


def _kept(record: PluginRecord, on_board: int) -> dict[str, int]:
    return {
        "board": on_board,
        "registrations": record.instance.registered.used if record.instance is not None else 0,
        "dead_letters": record.dead_letters.used,
        "log": record.logs.used,
        "shared": record.instance.account.used if record.instance is not None else 0,
    }


def _shown(permissions: Permissions) -> dict[str, Any]:
    fields = fields_of(permissions).items()
    return {kind: "all" if what is None else [*what] for kind, what in fields if what != ()}


def _death(death: KernelError | None) -> dict[str, str]:
    if death is None:
        return {}
    return {"reason": str(death.fields["reason"]), "stack": str(death.fields["traceback"])}


def _error_parts(error: KernelError | None) -> dict[str, Any]:
    if error is None:
        return {}
    fields = {key: value for key, value in error.fields.items() if isinstance(value, str | int | float | None)}
    return {"error_id": error.id, "error_fields": fields, "traceback": str(fields.pop("traceback", ""))}
