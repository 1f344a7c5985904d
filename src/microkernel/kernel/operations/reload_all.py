"""Reload all plugins, in the order of their requirements. One that fails does not keep the others from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from microkernel.errors import KernelError
from microkernel.kernel.operations.start_order import layers
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.registry.states import WANTED
from microkernel.wire.light_dataclasses import dataclass

ForEach = Callable[[list[PluginRecord], Callable[[PluginRecord], object]], None]


@dataclass(frozen=True, slots=True)
class ReloadFailure:
    """A plugin that was not reloaded, and why."""

    plugin: str
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ReloadSummary:
    """The outcome of reloading all plugins. Those that are stopped, or set aside, are in neither list."""

    reloaded: tuple[str, ...]
    failed: tuple[ReloadFailure, ...]


def reload_all(
    records: Iterable[PluginRecord],
    reload: Callable[[str], object],
    for_each: ForEach,
    after: Mapping[str, Collection[str]],
) -> ReloadSummary:
    """Reload the plugins that are wanted, layer by layer: each after the plugins that it requires."""
    chosen = {r.name: r for r in records if r.state in WANTED and not r.is_remote_client and not r.built_in}
    outcome: dict[str, KernelError | None] = {}
    for layer in layers({name: record.manifest.requires for name, record in chosen.items()}, after):
        for_each([chosen[name] for name in layer], partial(_try, reload, outcome))
    failed = tuple(
        ReloadFailure(name, error.id, error.text) for name, error in sorted(outcome.items()) if error is not None
    )
    return ReloadSummary(tuple(name for name, error in outcome.items() if error is None), failed)


def _try(reload: Callable[[str], object], outcome: dict[str, KernelError | None], record: PluginRecord) -> None:
    try:
        reload(record.name)
    except KernelError as error:
        outcome[record.name] = error
    else:
        outcome[record.name] = None
