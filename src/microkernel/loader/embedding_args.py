"""What an embedding program hands to a Kernel, in the forms that are handy to write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from microkernel.errors import ConfigError
from microkernel.kernel.manifest import Level, Permissions
from microkernel.loader.schema import Where, level, permissions

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Places = Path | Sequence[Path]
Given = Permissions | Literal["declared"] | Mapping[str, Sequence[str]]
Grants = Mapping[str, Given]
"""By plugin: permissions, ``"declared"`` for all that its manifest asks for, or a table as in a manifest."""
_WHERE = Where("grants", ConfigError)


def list_places(plugins: Places) -> list[str]:
    """One place alone is a list of one."""
    if isinstance(plugins, str | bytes | os.PathLike):
        return [os.fsdecode(plugins)]
    return [os.fsdecode(place) for place in plugins]


def read_level(isolation: Level | None) -> Level | None:
    """Raises ConfigError MK0110 for what is no level."""
    if isolation is not None:
        level(isolation, Where("Kernel", ConfigError, "isolation"))
    return isolation


def read_grants(grants: Grants) -> dict[str, Permissions | Literal["declared"]]:
    """Raises ConfigError: MK0110 for what has another form, MK0109 for a permission that does not exist."""
    return {plugin: _read(given, _WHERE.below(plugin)) for plugin, given in grants.items()}


def _read(given: Given, where: Where) -> Permissions | Literal["declared"]:
    """A table names what is given; what it does not name is not."""
    if isinstance(given, Permissions) or given == "declared":
        return given
    if not isinstance(given, Mapping):
        raise where.wrong_type('a table of permissions, Permissions, or "declared"', given)
    return permissions({kind: _listed(what) for kind, what in given.items()}, where)


def _listed(what: Any) -> Any:
    """Tables of a file have lists; a program may have any sequence."""
    return list(what) if isinstance(what, Sequence) and not isinstance(what, str | bytes) else what
