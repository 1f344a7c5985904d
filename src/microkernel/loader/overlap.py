"""Refuses data folders among the plugins."""

from __future__ import annotations

import os
from collections.abc import Iterable

from microkernel.errors import ConfigError
from microkernel.loader.discovery import is_found_in, is_place
from microkernel.loader.display import display_path


def check_data_folder(folder: str, places: Iterable[str], *, is_named: bool) -> None:
    """Raise ConfigError MK0724 for a folder that is one of the ``places`` or inside a plugin, because files written
    there would be found as plugins or become part of one.

    A folder named by the operator must not be inside a place at all.
    """
    real = os.path.realpath(folder)
    for place in filter(is_place, places):
        around = os.path.realpath(place)
        below = os.path.relpath(real, around)
        if below.split("/")[0] == ".." or not os.path.isdir(around):
            continue
        if is_named or below == "." or is_found_in(around, below.split("/")[0]):
            raise ConfigError("MK0724", path=display_path(folder), place=display_path(place))
