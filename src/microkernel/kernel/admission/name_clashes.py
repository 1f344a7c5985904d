"""Decide which of several plugins of the same name owns it. Pure.

A name is more than a label: approvals, configuration, secrets and the data folder depend on it. So a file that uses
another plugin's name must not take its place, whatever the order in which they are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from microkernel.errors import KernelError, PluginLoadError
from microkernel.kernel.ports import PluginCandidate

# Another plugin owns the name.
TAKEN = "MK0107"
# Several plugins claim the name, and none of them owns it.
DISPUTED = "MK0155"


def settle(
    found: Iterable[PluginCandidate],
    owns: Callable[[PluginCandidate], bool],
    is_confined: Callable[[PluginCandidate], bool],
) -> list[PluginCandidate]:
    """Give each name to the one plugin that ``owns`` it; the others get an error.

    If no plugin or several own a name, all get an error, unless all are trusted: then the first one found owns it. The
    result is sorted by name, with the owner first.
    """
    found = list(found)
    claims: dict[str, list[PluginCandidate]] = {}
    for each in found:
        if is_fit(each):
            claims.setdefault(each.name, []).append(each)
    settled = {each.path: each for rivals in claims.values() for each in _settle_name(rivals, owns, is_confined)}
    return sorted(
        (settled.get(each.path, each) for each in found), key=lambda each: (each.name, each.error is not None)
    )


def is_fit(found: PluginCandidate) -> bool:
    """Return whether a plugin has no error, other than a name owned by another plugin."""
    return found.error is None or found.error.id == TAKEN


def is_disputed(error: KernelError | None) -> bool:
    return error is not None and error.id == DISPUTED


def _settle_name(
    rivals: list[PluginCandidate],
    owns: Callable[[PluginCandidate], bool],
    is_confined: Callable[[PluginCandidate], bool],
) -> list[PluginCandidate]:
    if len(rivals) == 1:
        return [replace(rivals[0], error=None)]
    owners = [each for each in rivals if owns(each)]
    if not owners and not any(map(is_confined, rivals)):
        owners = sorted(rivals, key=lambda each: each.error is not None)[:1]
    if len(owners) != 1:
        return [_refuse(each, DISPUTED, next(other for other in rivals if other is not each)) for each in rivals]
    owner = owners[0]
    return [replace(each, error=None) if each is owner else _refuse(each, TAKEN, owner) for each in rivals]


def _refuse(found: PluginCandidate, id: str, other: PluginCandidate) -> PluginCandidate:
    return replace(found, error=PluginLoadError(id, name=found.name, first=other.path, second=found.path))
