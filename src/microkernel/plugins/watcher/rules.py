"""What a change means: whose it is, whether it is one at all, what is to be done. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["reload", "start", "wait", "leave"]

ENTRIES = ("__init__.py", "plugin.py", "plugin.toml")
"""What makes a plugin of a folder."""
_SOURCE = (".py", ".toml")
_NOISE = re.compile(
    r"""
    .*\.py[co] | .*~ | \#.*\# | \.\#.* | 4913                # bytecode; backups, Emacs' locks; Vim's probe
    | .*\.(sw[a-px]|tmp|temp|bak|orig|rej|part|lock|log|pid)
    | .*-(journal|wal|shm)                                   # beside an SQLite file
    | \.(goutputstream-.*|~lock\..*|nfs.*|DS_Store|fuse_hidden.*)
    | .*\.___jb_\w+___ | .*\.kate-swp | flycheck_.*
    """,
    re.VERBOSE,
)
_NOISY_FOLDERS = frozenset({"__pycache__", "node_modules", "venv"})
_UNMET = frozenset({"MK0114", "MK0115", "MK0125"})
"""Errors of a plugin that would run, were it not for one that it requires."""
_ACTIONS: Mapping[str, Action] = {
    "active": "reload",
    "failed": "start",
    "backoff": "start",
    "quarantined": "start",
    "discovered": "wait",
    "loaded": "wait",
    "starting": "wait",
    "stopping": "wait",
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """As the kernel reports it. ``path``: a text, or bytes where it is not valid Unicode."""

    name: str
    path: Any
    state: str
    requires: tuple[str, ...] = ()
    error_id: str | None = None
    built_in: bool = False


def is_noisy_folder(name: str) -> bool:
    """Caches, environments, what version control and editors keep: nothing below is a plugin's."""
    return name.startswith(".") or name in _NOISY_FOLDERS


def is_noise(name: str) -> bool:
    """Whether a file of this name is what editors, interpreters and databases leave beside what they work on."""
    return _NOISE.fullmatch(name) is not None


def is_source(path: str) -> bool:
    """Code or a manifest; the rest is data."""
    return path.endswith(_SOURCE)


def is_doubtful(path: str, data: bytes) -> bool:
    """Whether this may be half of what is being written. Who is wrong about it only waits a moment."""
    return not data or (is_source(path) and not data.endswith(b"\n"))


def owner(path: str, homes: Mapping[str, str]) -> str:
    """The plugin whose file this is, or that lies in a folder around it; nothing if it is nobody's."""
    while path not in homes:
        above = os.path.dirname(path)
        if above == path:
            return ""
        path = above
    return homes[path]


def may_begin(name: str) -> bool:
    """Whether a file of this name, in a folder of plugins or one level below, may make a plugin of what lies there."""
    return name in ENTRIES or (name.endswith(".py") and name[0] not in "_." and not is_noise(name))


def action_for(state: str) -> Action:
    """What the author of a plugin in this state expects when its file is saved.

    Whoever stopped or killed it by hand meant it; what failed, died again and again or was set aside has been mended.
    """
    return _ACTIONS.get(state, "leave")


def in_order(names: Collection[str], plugins: Iterable[Plugin]) -> list[str]:
    """Each after those it requires, whether directly or by way of others that did not change."""
    needs = {plugin.name: set(map(_required, plugin.requires)) - {plugin.name} for plugin in plugins}
    left = {**{name: set[str]() for name in names}, **needs}
    ordered: list[str] = []
    while left:
        layer = [name for name in left if not left[name] & left.keys()] or list(left)  # a circle has no order
        ordered += sorted(layer)
        for name in layer:
            del left[name]
    requested = set(names)
    return [name for name in ordered if name in requested]


def unblocked_by(names: Iterable[str], plugins: Iterable[Plugin]) -> list[str]:
    """Plugins that failed only for want of one of these."""
    there = set(names)
    return [
        plugin.name
        for plugin in plugins
        if plugin.state == "failed" and plugin.error_id in _UNMET and there & set(map(_required, plugin.requires))
    ]


def too_often(times: Sequence[float], limit: int, within: float) -> bool:
    """Whether the last ``limit`` of these moments, the newest last, lie within so many seconds."""
    return len(times) >= limit and times[-1] - times[-limit] <= within


def _required(requirement: str) -> str:
    found = re.match(r"\s*([a-z0-9_-]*)", requirement)
    return found[1] if found else ""
