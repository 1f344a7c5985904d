"""Arrays over mapped memory: what views are of, so that it can be told when the last of them has gone."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from mmap import mmap
from typing import Any


def array_over(mapping: mmap) -> Any:
    """A new array over a whole mapping that can be written to. It can be referred to weakly; a mapping cannot, and a
    slice of a ``memoryview`` keeps alive what it is a view of, not the view it was cut from."""
    return _array_class(len(mapping)).from_buffer(mapping)


@lru_cache
def _array_class(size: int) -> Any:
    return type("Block", (ctypes.c_ubyte * size,), {})
