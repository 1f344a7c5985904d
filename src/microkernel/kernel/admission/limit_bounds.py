"""Bound the limits and supervision values that a manifest may set without the operator. Pure.

A manifest is written by the plugin's author, so the kernel's waits, polling intervals and memory must not depend on it
alone. At every level a manifest's value stays within a floor and a ceiling. At the confined levels a manifest may only
lower the cost of its plugin to others: a value that costs more than the default is requested like a permission, and
takes effect when it is approved. Values from the operator's configuration are never changed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from math import inf
from typing import Any, Final, NamedTuple

from microkernel.kernel.config import PluginConfig
from microkernel.kernel.manifest import CONFINED_LIMITS, Limits, Manifest, Supervision


class Bound(NamedTuple):
    """Range of values that a manifest may set.

    ``costs_more``: the sign of the change that makes a plugin cost others more. ``zero_is``: the value that 0 stands
    for, unless 0 means 0.
    """

    least: float = 0.0
    most: float = inf
    costs_more: int = 1
    zero_is: float = 0.0


# Most seconds that a manifest can make the kernel wait for one step of its plugin. `close` and `open` wait for all
# steps.
_WAIT = 30.0
_DAY = 86_400.0
_HOUR = 3_600.0

# By field of ``Limits``. 0 of a system limit stands for the default of the level.
LIMITS: Final[Mapping[str, Bound]] = {
    "load": Bound(0.01, _WAIT, zero_is=inf),
    "start": Bound(0.01, _WAIT, zero_is=inf),
    "drain": Bound(0.0, _WAIT),
    "stop": Bound(0.01, _WAIT, zero_is=inf),
    "kill_grace": Bound(0.0, 5.0),
    "handler": Bound(0.01, _DAY, zero_is=inf),
    "heartbeat": Bound(0.25, _HOUR, zero_is=inf),
    "probation": Bound(0.0, _WAIT),
    "full_mailbox_timeout": Bound(0.0, _WAIT),
    "max_deliveries": Bound(1, 100),
    "mailbox": Bound(1),
    "kernel_memory": Bound(zero_is=inf),
    "shared_memory": Bound(zero_is=inf),
    "memory": Bound(),
    "files": Bound(),
    "file_size": Bound(),
    "cpu": Bound(zero_is=inf),
    "processors": Bound(zero_is=inf),
    "threads": Bound(),
    "disk": Bound(),
    "frames": Bound(),
    "handlers": Bound(),
    "methods": Bound(),
    "keys": Bound(),
    "lines": Bound(),
}
SUPERVISION: Final[Mapping[str, Bound]] = {
    "intensity": Bound(0, 1_000),
    "period": Bound(1.0, _DAY, costs_more=-1),
    "backoff": Bound(0.01, _HOUR, costs_more=-1),
    "backoff_max": Bound(0.1, _HOUR, costs_more=-1),
}
# Defaults of the memory and lines that the kernel spends on an untrusted plugin. Small enough that one message, and
# everything kept for one plugin, stays cheap for all others.
KEPT_WHEN_CONFINED: Final[Mapping[str, int]] = {
    "kernel_memory": 20 * 1024 * 1024, "handlers": 256, "methods": 1024, "keys": 4096, "lines": 1000,
}  # fmt: skip
# The highest ``concurrency`` that a manifest may set.
MOST_THREADS: Final = 256
_SIZES = frozenset({"kernel_memory", "shared_memory", "memory", "file_size", "disk"})
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_LINE = re.compile(r"(\S{1,40}) (none|[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,2})?)([KMGT]iB)?")
_OF_RESTARTS = "supervision."


class Change(NamedTuple):
    """A value of a manifest that is changed. ``asked`` is shown as ``memory 1GiB``; ``holds`` is the new value."""

    asked: str
    holds: str


def fixed_by(own: PluginConfig | None, *, limits: Iterable[str] = ()) -> frozenset[str]:
    """Return the names of the values that the operator has set, for all plugins (``limits``) or for one (``own``)."""
    if own is None:
        return frozenset(limits)
    threads = ["concurrency"] if own.concurrency else []
    return frozenset({*limits, *own.limits, *(f"{_OF_RESTARTS}{key}" for key in own.supervision), *threads})


def keep_within(manifest: Manifest, fixed: Collection[str]) -> Manifest:
    """Return the manifest with each value between its floor and its ceiling, except the ``fixed`` ones (by name)."""
    most = manifest.concurrency if "concurrency" in fixed else MOST_THREADS
    bounded = _map(manifest, fixed, lambda _name, bound, value: min(max(bound.least, value), bound.most))
    return replace(bounded, concurrency=min(manifest.concurrency, most))


def lower(manifest: Manifest, fixed: Collection[str], approved: Collection[str] | None) -> Manifest:
    """Lower each value that costs more than its default, and was not approved, to the default.

    For manifests of confined plugins. ``approved``: lines from ``raised``; None for all of them.
    """
    given = [parsed for line in approved or () if (parsed := _parse(line)) is not None]

    def lowered(name: str, bound: Bound, value: float) -> float:
        if value == _DEFAULTS[name]:
            return KEPT_WHEN_CONFINED.get(name, value)
        if approved is None:
            return value
        allowed = [_default(name), *(amount for which, amount in given if which == name)]
        return min(value, max(allowed)) if bound.costs_more > 0 else max(value, min(allowed))

    return _map(manifest, fixed, lowered)


def raised(manifest: Manifest, fixed: Collection[str]) -> tuple[str, ...]:
    """Return the values that cost more than their defaults, each as a line to approve: ``memory 1GiB``."""
    asked = keep_within(manifest, fixed)
    return tuple(change.asked for change in changes(asked, lower(asked, fixed, ())))


def is_covered(line: str, approved: Collection[str]) -> bool:
    """Return whether one of the approved lines allows at least as much as ``line``."""
    asked = _parse(line)
    if asked is None:
        return False
    name, amount = asked
    sign = _bound(name).costs_more
    given = (parsed for each in approved if (parsed := _parse(each)) is not None)
    return any(which == name and other * sign >= amount * sign for which, other in given)


def changes(asked: Manifest, held: Manifest) -> list[Change]:
    """Return the values that differ, except those left at their defaults, in the order of the fields."""
    now = _values(held)
    differ = {name: each for name, each in _values(asked).items() if each not in (now[name], _DEFAULTS[name])}
    return [Change(f"{name} {_text(name, each)}", _text(name, now[name])) for name, each in differ.items()]


def _bound(name: str) -> Bound:
    return LIMITS[name] if name in LIMITS else SUPERVISION.get(name.removeprefix(_OF_RESTARTS), Bound())


def _default(name: str) -> float:
    value: float = CONFINED_LIMITS.get(name) or KEPT_WHEN_CONFINED.get(name) or _DEFAULTS[name]
    return value


def _values(manifest: Manifest) -> dict[str, float]:
    """Return the values by name, each 0 replaced by the value that it stands for."""
    found = {name: getattr(manifest.limits, name) or bound.zero_is for name, bound in LIMITS.items()}
    found |= {f"{_OF_RESTARTS}{name}": getattr(manifest.supervision, name) for name in SUPERVISION}
    return {**found, "concurrency": manifest.concurrency}


_DEFAULTS: Final = _values(Manifest("default"))


def _map(manifest: Manifest, fixed: Collection[str], change: Callable[[str, Bound, float], float]) -> Manifest:
    """Apply ``change`` to each value, except the ``fixed`` ones and the concurrency."""
    now = {
        name: change(name, _bound(name), value)
        for name, value in _values(manifest).items()
        if name not in fixed and name != "concurrency"
    }
    return replace(
        manifest,
        limits=replace(manifest.limits, **_stored(now, manifest.limits, "")),
        supervision=replace(manifest.supervision, **_stored(now, manifest.supervision, _OF_RESTARTS)),
    )


def _stored(values: Mapping[str, float], table: Limits | Supervision, prefix: str) -> dict[str, Any]:
    """Return the values as fields of the table, with their types there; infinity becomes 0 again."""
    names = {name: f"{prefix}{name}" for name in (LIMITS if isinstance(table, Limits) else SUPERVISION)}
    stored = {name: values[key] for name, key in names.items() if key in values}
    defaults = asdict(type(table)())
    return {name: type(defaults[name])(0 if value == inf else value) for name, value in stored.items()}


def _text(name: str, value: float) -> str:
    if value == inf:
        return "none"
    if name in _SIZES:
        unit = max((unit for unit, size in _UNITS.items() if value % size == 0), key=_UNITS.__getitem__)
        return f"{int(value) // _UNITS[unit]}{unit}" if value else "0"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else repr(value)


def _parse(line: str) -> tuple[str, float] | None:
    """Return the name and the amount of a limit's line; None if it is not one."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    name, amount, unit = found.groups()
    return name, inf if amount == "none" else float(amount) * _UNITS[unit or ""]
