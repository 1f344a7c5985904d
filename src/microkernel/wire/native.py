"""The optional native core: the hot paths of this package, compiled. The only module that imports it.

It is used if the distribution `microkernel-native` is installed, fits this version, and ``MK_PURE=1`` is not set.
Without it everything works the same way, more slowly. Only code for the usual case is in there, and it falls back to
the Python code before it has any effect.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

# The interface that this version uses. The native core changes its own with each change of this.
INTERFACE = 1


def load() -> tuple[ModuleType | None, str]:
    """Return the native core, and its version; or None, and why it is not used: ``off``, ``missing``, ``broken`` or
    ``other``, for another version."""
    if os.environ.get("MK_PURE", "") not in ("", "0"):
        return None, "off"
    try:
        import microkernel_native
    except ModuleNotFoundError:
        return None, "missing"
    except ImportError:  # built for another interpreter, for example
        return None, "broken"
    if getattr(microkernel_native, "INTERFACE", None) != INTERFACE:
        return None, "other"
    return microkernel_native, "used"


_module, STATE = load()
# The module, or None.
core: Any = _module


def make(kind: str, *args: Any) -> Any:
    """Return an object of a class of the native core; None without it, or if these classes have no slots where it reads
    them, as with another msgspec."""
    if core is None:
        return None
    try:
        return getattr(core, kind)(*args)
    except (TypeError, AttributeError):
        return None
