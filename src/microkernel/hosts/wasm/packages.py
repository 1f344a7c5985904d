"""Where the packages that a plugin depends on are installed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _named_by(package: Distribution) -> Iterator[str]:
    """Yield the folders that a package's ``.pth`` files name, as in an editable install."""
    for file in package.files or ():
        if file.suffix == ".pth":
            pth_file = Path(str(package.locate_file(file)))
            lines = pth_file.read_text(encoding="utf-8", errors="replace").splitlines() if pth_file.is_file() else ()
            yield from (line for line in lines if os.path.isabs(line) and os.path.isdir(line))


def folders_of(requirements: Iterable[str]) -> list[str]:
    """Return the folders of these packages and of all their dependencies, each once.

    A package that is not installed, as an optional dependency may be, has none.
    """
    folders: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [*requirements]
    while waiting:
        found = _NAME.match(waiting.pop().strip())
        if found is None or (name := found[0].lower()) in seen:
            continue
        seen.add(name)
        try:
            package = Distribution.from_name(name)
        except PackageNotFoundError:
            continue
        folders[str(package.locate_file(""))] = None
        folders.update(dict.fromkeys(_named_by(package)))
        waiting += package.requires or ()
    return [*folders]
