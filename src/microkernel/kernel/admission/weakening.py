"""Refuse configuration files and manifests that lose a protection by accident. Pure.

A file that is read while it is being written may be empty, or be cut off and still valid. So a protection that a file
no longer names stays in force, and the new content is refused, until the operator names the weaker value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import NamedTuple

from microkernel.errors import ConfigError, ManifestError
from microkernel.kernel.admission.effective_config import choose_level, merge
from microkernel.kernel.admission.permissions import CONFINED
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.manifest import LEVELS, Level, Limits, Manifest

_NOTHING = PluginConfig()
_EMPTY = "it is empty, and was not when it was read before"


class _Doubt(NamedTuple):
    reason: str
    # The line that the operator writes if the change is intended.
    line: str = ""


def check_configuration(
    before: KernelConfig, now: KernelConfig, manifests: Iterable[Manifest], override: Level | None
) -> None:
    """Compare a configuration file with its previous content. ``manifests`` are those of the known plugins.

    Raises ConfigError MK0721 for a file that is empty now, or that no longer names a level, permissions, a limit,
    ``enabled = false`` or ``pin = "bytes"`` if a plugin would be less restricted without it.
    """
    for doubt in _doubts(before, now, manifests, override):
        cure = f"; if that is meant, write {doubt.line}" if doubt.line else ""
        raise ConfigError("MK0721", path=now.source, reason=doubt.reason, cure=cure)


def check_manifest(before: Manifest, now: Manifest, config: KernelConfig, override: Level | None) -> None:
    """Compare a plugin's manifest with its previous one. Values that the operator sets for the plugin hold in any case.

    Raises ManifestError MK0134 if the level would fall, or if permissions or all limits are missing.
    """
    own = config.plugin.get(now.name, _NOTHING)
    old, new = (choose_level(each, config, override)[0] for each in (before, now))
    doubt = None
    if _falls(old, new) and own.isolation is None:
        doubt = _Doubt(f"it would fall from {old} to {new}", f'isolation = "{new}"')
    elif new not in CONFINED and before.permissions is not None and now.permissions is None and own.permissions is None:
        doubt = _Doubt("its manifest no longer names its permissions", "permissions = {...}")
    elif _says_nothing(now) and (gone := next(_weaker_limits(before.limits, now.limits, own.limits), "")):
        doubt = _Doubt(f"its manifest is empty, and named limits.{gone} before", f"limits = {{ {gone} = 0 }}")
    if doubt is not None:
        cure = f"; if that is meant, write {doubt.line} below [plugin.{now.name}]"
        raise ManifestError("MK0134", name=now.name, reason=doubt.reason, cure=cure)


def _doubts(
    before: KernelConfig, now: KernelConfig, manifests: Iterable[Manifest], override: Level | None
) -> Iterator[_Doubt]:
    if before.written and not now.written:
        yield _Doubt(_EMPTY)
    for key in ("isolation", "min_isolation"):
        if key in before.written - now.written and _falls(getattr(before, key), getattr(now, key)):
            yield _Doubt(f"it no longer names {key}", f'{key} = "{getattr(now, key)}"')
    if before.approvals.pin == "bytes" and not now.approvals.pin:
        yield _Doubt("it no longer names approvals.pin", 'pin = "version" below [approvals]')
    for name, own in before.plugin.items():
        if own.enabled is False and now.plugin.get(name, _NOTHING).enabled is None:
            yield _Doubt(f"it no longer leaves out {name}", f"enabled = true below [plugin.{name}]")
    for manifest in manifests:
        yield from _doubts_of(manifest, before, now, override)


def _doubts_of(manifest: Manifest, before: KernelConfig, now: KernelConfig, override: Level | None) -> Iterator[_Doubt]:
    name = manifest.name
    theirs, ours = before.plugin.get(name, _NOTHING), now.plugin.get(name, _NOTHING)
    old, new = (choose_level(manifest, config, override)[0] for config in (before, now))
    if _falls(old, new) and ours.isolation is None and not _is_named(old, theirs, before, now):
        yield _Doubt(f"{name} would fall from {old} to {new}", f'isolation = "{new}" below [plugin.{name}]')
    if new not in CONFINED and theirs.permissions is not None and ours.permissions is None:
        yield _Doubt(f"it no longer names the permissions of {name}", f"permissions = {{...}} below [plugin.{name}]")
    was, named = merge(manifest, before).limits, {**now.limits, **ours.limits}
    for gone in _weaker_limits(was, merge(manifest, now).limits, named):
        yield _Doubt(f"it no longer names limits.{gone} of {name}", f"limits = {{ {gone} = 0 }} below [plugin.{name}]")


def _is_named(old: Level, theirs: PluginConfig, before: KernelConfig, now: KernelConfig) -> bool:
    """Return whether the file still has the key, for all plugins, that determined the level before."""
    if theirs.isolation is not None:
        return False
    return ("min_isolation" if old == before.min_isolation != before.isolation else "isolation") in now.written


def _falls(old: Level, new: Level) -> bool:
    return LEVELS.index(new) < LEVELS.index(old)


def _says_nothing(manifest: Manifest) -> bool:
    return (manifest.isolation, manifest.permissions, manifest.limits) == (None, None, Limits())


def _weaker_limits(old: Limits, new: Limits, named: Iterable[str]) -> Iterator[str]:
    """Yield the limits that restrict less than before, except the ``named`` ones. 0 means unlimited."""
    before, now, written = asdict(old), asdict(new), set(named)
    for key, value in before.items():
        if key not in written and value and (not now[key] or now[key] > value):
            yield key
