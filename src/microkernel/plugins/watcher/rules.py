"""The meaning of a change: the owner of the file, whether it matters, and the action to take. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["reload", "start", "wait", "report", "leave"]

# Files that make a folder a plugin.
ENTRIES = ("__init__.py", "plugin.py", "plugin.toml")
_SOURCE = (".py", ".toml")
_NOISE = re.compile(
    r"""
    .*\.py[co] | .*~ | \#.*\# | \.\#.* | 4913                # bytecode; backups, Emacs' locks; Vim's probe
    | .*\.(sw[a-px]|tmp|temp|bak|orig|rej|part|lock|log|pid)
    | .*-(journal|wal|shm)                                   # next to an SQLite file
    | \.(goutputstream-.*|~lock\..*|nfs.*|DS_Store|fuse_hidden.*)
    | .*\.___jb_\w+___ | .*\.kate-swp | flycheck_.*
    """,
    re.VERBOSE,
)
_NOISY_FOLDERS = frozenset({"__pycache__", "node_modules", "venv"})
# Errors of a plugin that only lacks another plugin that it requires.
_UNMET = frozenset({"MK0114", "MK0115", "MK0125"})
_ACTIONS: Mapping[str, Action] = {
    "active": "reload",
    "failed": "start",
    "waiting": "start",
    "backoff": "start",
    "quarantined": "start",
    "discovered": "wait",
    "loaded": "wait",
    "starting": "wait",
    "stopping": "wait",
    "stopped": "report",
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin as the kernel reports it. ``path`` is a str, or bytes if it is not valid Unicode."""

    name: str
    path: Any
    state: str
    requires: tuple[str, ...] = ()
    error_id: str | None = None
    built_in: bool = False


def is_noisy_folder(name: str) -> bool:
    """Return whether this is a cache, an environment, or a folder of version control or an editor. Nothing below it
    belongs to a plugin."""
    return name.startswith(".") or name in _NOISY_FOLDERS


def is_noise(name: str) -> bool:
    """Return whether a file of this name is a by-product of an editor, interpreter or database."""
    return _NOISE.fullmatch(name) is not None


def is_source(path: str) -> bool:
    """Return whether the file is code or a manifest; anything else is data."""
    return path.endswith(_SOURCE)


def is_doubtful(path: str, data: bytes) -> bool:
    """Return whether the file may be written only in part. A wrong answer only costs a short wait."""
    return not data or (is_source(path) and not data.endswith(b"\n"))


def owner(path: str, homes: Mapping[str, str]) -> str:
    """Return the plugin that the file belongs to, or whose folder contains it; an empty string if there is none."""
    while path not in homes:
        above = os.path.dirname(path)
        if above == path:
            return ""
        path = above
    return homes[path]


def may_begin(name: str) -> bool:
    """Return whether a file of this name, in a folder of plugins or one level below, may create a plugin."""
    return name in ENTRIES or (name.endswith(".py") and name[0] not in "_." and not is_noise(name))


def action_for(state: str) -> Action:
    """Return the action that the author of a plugin in this state expects when its file is saved.

    A plugin that was stopped or killed on purpose stays stopped, and a notice says how to start it. A failed,
    restarting or quarantined one has been corrected.
    """
    return _ACTIONS.get(state, "leave")


def in_order(names: Collection[str], plugins: Iterable[Plugin]) -> list[str]:
    """Order plugins after those they require, directly or by way of plugins that did not change."""
    needs = {plugin.name: set(map(_required, plugin.requires)) - {plugin.name} for plugin in plugins}
    left = {**{name: set[str]() for name in names}, **needs}
    ordered: list[str] = []
    while left:
        layer = [name for name in left if not left[name] & left.keys()] or list(left)  # a cycle has no order
        ordered += sorted(layer)
        for name in layer:
            del left[name]
    requested = set(names)
    return [name for name in ordered if name in requested]


def unblocked_by(names: Iterable[str], plugins: Iterable[Plugin]) -> list[str]:
    """Return the plugins that failed only because they lack one of these."""
    there = set(names)
    return [
        plugin.name
        for plugin in plugins
        if plugin.state == "failed" and plugin.error_id in _UNMET and there & set(map(_required, plugin.requires))
    ]


def too_often(times: Sequence[float], limit: int, within: float) -> bool:
    """Return whether the last ``limit`` times, the newest last, are within ``within`` seconds."""
    return len(times) >= limit and times[-1] - times[-limit] <= within


def _required(requirement: str) -> str:
    found = re.match(r"\s*([a-z0-9_-]*)", requirement)
    return found[1] if found else ""
