"""Arrays over mapped memory, to detect when the last view of it is gone."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from mmap import mmap
from typing import Any


def array_over(mapping: mmap) -> Any:
    """Return a new array over a whole writable mapping.

    It supports weak references, which a mapping does not. A slice of a ``memoryview`` keeps alive the object it is a
    view of, not the view it was cut from.
    """
    return _array_class(len(mapping)).from_buffer(mapping)


@lru_cache
def _array_class(size: int) -> Any:
    return type("Block", (ctypes.c_ubyte * size,), {})
