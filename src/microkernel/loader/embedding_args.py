"""The arguments of an embedding program for a Kernel, in the forms that are convenient to write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from microkernel.errors import ConfigError
from microkernel.kernel.manifest import Level, Permissions
from microkernel.loader.schema import Where
from microkernel.loader.shared_tables import level, permissions

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Places = Path | Sequence[Path]
Given = Permissions | Literal["declared"] | Mapping[str, Sequence[str]]
# By plugin: permissions, ``"declared"`` for everything its manifest asks for, or a table as in a manifest.
Grants = Mapping[str, Given]
_WHERE = Where("grants", ConfigError)


def list_places(plugins: Places) -> list[str]:
    """Return places as a list; a single place may be given alone."""
    if isinstance(plugins, str | bytes | os.PathLike):
        return [os.fsdecode(plugins)]
    return [os.fsdecode(place) for place in plugins]


def read_level(isolation: Level | None) -> Level | None:
    """Check a level. Raises ConfigError MK0110."""
    if isolation is not None:
        level(isolation, Where("Kernel", ConfigError, "isolation"))
    return isolation


def read_grants(grants: Grants) -> dict[str, Permissions | Literal["declared"]]:
    """Read grants. Raises ConfigError: MK0110 for a wrong form, MK0109 for an unknown permission."""
    return {plugin: _read(given, _WHERE.below(plugin)) for plugin, given in grants.items()}


def _read(given: Given, where: Where) -> Permissions | Literal["declared"]:
    """Read the grant of one plugin. A table grants only what it names."""
    if isinstance(given, Permissions) or given == "declared":
        return given
    if not isinstance(given, Mapping):
        raise where.wrong_type('a table of permissions, Permissions, or "declared"', given)
    return permissions({kind: _listed(what) for kind, what in given.items()}, where)


def _listed(what: Any) -> Any:
    """Convert sequences to lists, which tables of a file have."""
    return list(what) if isinstance(what, Sequence) and not isinstance(what, str | bytes) else what
