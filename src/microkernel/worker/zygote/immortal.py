"""Make all objects of the zygote immortal (PEP 683), so that its forks share their memory for as long as they live.

A reference to an object is counted in the object itself, and a fork owns each page that it writes to: a worker would
soon have a copy of whatever it looks at. The count of an immortal object is never written.

CPython 3.12 and 3.13 keep the count in the first word of an object, and an object is immortal if the lower half of this
word has all bits set (``Include/object.h``). No function sets it, so it is written directly. Other versions, and builds
without the global lock, have other layouts; there nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from operator import attrgetter
from types import CodeType

_IMMORTAL = 0xFFFFFFFF
# The parts of a code object, which the collector does not know. (``co_varnames`` and the like are made when asked for.)
_parts_of = attrgetter(
    "co_consts", "co_names", "co_filename", "co_name", "co_qualname", "co_linetable", "co_exceptiontable"
)
# The addresses of a process on x86-64 and aarch64 have 47 or 48 bits.
_WORDS = (1 << 48) // 8


def is_supported() -> bool:
    """Return whether the layout of objects is known in this interpreter."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in ((3, 12), (3, 13))
        and sys.maxsize > 1 << 32
        and "free-threading" not in sys.version
        and not hasattr(sys, "gettotalrefcount")  # a debug build counts all references, and checks the sum
    )


def make_all_immortal() -> int:
    """Make everything immortal that the collector knows, and what that refers to. Return the number of objects.

    Nothing of it is ever freed, garbage included. Call it when all is loaded and no other thread runs. Raises
    RuntimeError where this is not supported.
    """
    if not is_supported():
        raise RuntimeError("the layout of this interpreter's objects is not known")
    found = _find_all(gc.get_objects())
    # All memory as an array of words: an item is written in a tenth of the time that an object of ctypes takes.
    words = memoryview((ctypes.c_uint64 * _WORDS).from_address(0)).cast("B").cast("Q")
    for address in found:
        words[address >> 3] = _IMMORTAL
    return len(found)


def _find_all(roots: list[object]) -> dict[int, object]:
    """Return these objects and all that they refer to, by address, but not the containers that are used here."""
    found: dict[int, object] = {}
    ahead = roots
    while ahead:
        fresh = dict(zip(map(id, ahead), ahead, strict=True))
        for known in fresh.keys() & found.keys():
            del fresh[known]
        found |= fresh
        ahead = gc.get_referents(*fresh.values())
        for code in [each for each in fresh.values() if type(each) is CodeType]:
            ahead += _parts_of(code)
    return found
