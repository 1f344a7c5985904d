"""What an embedding program hands to a Kernel, in the forms that are handy to write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from microkernel.errors import ConfigError
from microkernel.kernel.grants import Grant, of_fields

Grants = Mapping[str, Grant | Mapping[str, Sequence[str]]]
"""By plugin: permissions, ``"declared"`` for all that its manifest asks for, or a table as in a manifest."""
Places = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def read_grant(given: Grant | Mapping[str, Sequence[str]]) -> Grant:
    """A table names what is given; what it does not name is not."""
    if not isinstance(given, Mapping):
        return given
    try:
        return of_fields(given)
    except TypeError as error:
        raise ConfigError("MK0705", path="grants", reason=str(error)) from None


def list_places(plugins: Places) -> list[str]:
    if isinstance(plugins, str | os.PathLike):
        return [os.fspath(plugins)]
    return [os.fspath(place) for place in plugins]
