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
from types import CodeType

_IMMORTAL = 0xFFFFFFFF
# The parts of a code object, which the collector does not know. (``co_varnames`` and the like are made when asked for.)
_CODE_PARTS = ("co_consts", "co_names", "co_filename", "co_name", "co_qualname", "co_linetable", "co_exceptiontable")


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

    Nothing of it is ever freed. Call it when all is loaded and no other thread runs. Raises RuntimeError where this is
    not supported.
    """
    if not is_supported():
        raise RuntimeError("the layout of this interpreter's objects is not known")
    gc.collect()
    found = _find_all(gc.get_objects())
    count = ctypes.c_uint64.from_address
    for each in found:
        count(id(each)).value = _IMMORTAL
    return len(found)


def _find_all(roots: list[object]) -> list[object]:
    """Return these objects and all that they refer to, each once, but not the containers that are used here."""
    seen: set[int] = set()
    found: list[object] = []
    ahead = roots
    while ahead:
        following: list[object] = gc.get_referents(*ahead)
        for each in ahead:
            if id(each) not in seen:
                seen.add(id(each))
                found.append(each)
                if isinstance(each, CodeType):
                    following += [getattr(each, name) for name in _CODE_PARTS]
        ahead = [each for each in following if id(each) not in seen]
    return found
