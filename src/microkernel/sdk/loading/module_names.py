"""Names of plugin modules in ``sys.modules``: ``mkplugin.<plugin>`` in every generation.

Whatever stores a reference by name (``pickle``, ``shelve``, a job store, ``multiprocessing``) reads it back in the next
generation. ``-`` is written ``_2d``. A second kernel of the same process that runs plugins in threads calls its own
``mkplugin.<kernel>.<plugin>``.
"""

from __future__ import annotations

import re
from itertools import chain, count

PACKAGE = "mkplugin"
_UNSAFE = re.compile(r"[^A-Za-z0-9_]|_(?=2d|5f)")
_taken: dict[str, ModuleNames] = {}
"""The packages that plugins' modules are in, and whose they are."""


class ModuleNames:
    """Names for the plugins of one kernel. ``shared``: several generations of one plugin may be loaded at once."""

    def __init__(self, kernel: str = "", *, shared: bool = False) -> None:
        self.shared = shared
        self.package = "" if shared else PACKAGE
        """What they are in; of a kernel with threads it is known when its first plugin is loaded."""
        self._kernel = kernel

    def of(self, plugin: str) -> str:
        """The name of the plugin's package, or of its only module. A new string each time, so that generations whose
        modules have equal names can be told apart by identity."""
        self.package = self.package or self._take()
        return f"{self.package}.{escape(plugin)}"

    def release(self) -> None:
        """The kernel is closed: the next one in this process may have its names. Idempotent."""
        if _taken.get(self.package) is self:
            _taken.pop(self.package, None)

    def _take(self) -> str:
        own = f"{PACKAGE}.{escape(self._kernel or 'kernel')}"
        candidates = chain((PACKAGE, own), (f"{own}_{number}" for number in count(2)))
        return next(each for each in candidates if _taken.setdefault(each, self) is self)


def escape(name: str) -> str:
    """An identifier for any name; different ones for different names of plugins."""
    return _UNSAFE.sub(lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode(errors="replace")), name)


def unescape(name: str) -> str:
    """The name of the plugin that ``escape`` made this of."""
    return name.replace("_2d", "-").replace("_5f", "_")
