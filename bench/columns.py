"""Columns of the table: the kernel in pure Python, and with its native core (the distribution ``microkernel-native``).

A process measures one column, because the choice is made when ``microkernel`` is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Literal

Column = Literal["pure", "native"]
BOTH: tuple[Column, ...] = ("pure", "native")

_PURE = "MK_PURE"


def in_use() -> Column:
    """Return the column that this process measures."""
    try:
        state = import_module("microkernel.wire.native").STATE
    except ModuleNotFoundError:  # a version without a native core
        return "pure"
    return "native" if state == "used" else "pure"


def available() -> tuple[Column, ...]:
    """Return the columns that can be measured here; without a native core, or if it is turned off, pure alone."""
    return BOTH if in_use() == "native" else ("pure",)


def environment(column: Column) -> Mapping[str, str]:
    """Return the environment of a process that measures ``column``."""
    inherited = {name: value for name, value in os.environ.items() if name != _PURE}
    return {**inherited, _PURE: "1"} if column == "pure" else inherited
