"""Names of plugin modules in ``sys.modules``: ``mkplugin.<plugin>`` in every generation.

References by name (``pickle``, ``shelve``, a job store, ``multiprocessing``) can be read in the next generation. ``-``
is written ``_2d``. A second kernel of the same process that runs plugins in threads uses
``mkplugin.<kernel>.<plugin>``.
"""

from __future__ import annotations

import re
from itertools import chain, count

PACKAGE = "mkplugin"
_UNSAFE = re.compile(r"[^A-Za-z0-9_]|_(?=2d|5f)")
# The top-level packages of plugins' modules, and their owners.
_taken: dict[str, ModuleNames] = {}


class ModuleNames:
    """The names for the plugins of one kernel. ``shared``: several generations of one plugin may be loaded at once."""

    def __init__(self, kernel: str = "", *, shared: bool = False) -> None:
        self.shared = shared
        # The package of the names; for a kernel with threads it is chosen when its first plugin is loaded.
        self.package = "" if shared else PACKAGE
        self._kernel = kernel

    def of(self, plugin: str) -> str:
        """Return the name of the plugin's package, or of its only module. A new str object each time, so that
        generations whose modules have equal names can be distinguished by identity."""
        self.package = self.package or self._take()
        return f"{self.package}.{escape(plugin)}"

    def release(self) -> None:
        """Release the package, because the kernel is closed and the next one in this process may use it. Idempotent."""
        if _taken.get(self.package) is self:
            _taken.pop(self.package, None)

    def _take(self) -> str:
        own = f"{PACKAGE}.{escape(self._kernel or 'kernel')}"
        candidates = chain((PACKAGE, own), (f"{own}_{number}" for number in count(2)))
        return next(each for each in candidates if _taken.setdefault(each, self) is self)


def escape(name: str) -> str:
    """Return an identifier for a name; different ones for different names of plugins."""
    return _UNSAFE.sub(lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode(errors="replace")), name)


def unescape(name: str) -> str:
    """Return the name of the plugin from the result of ``escape``."""
    return name.replace("_2d", "-").replace("_5f", "_")
