"""Where the packages are installed that a plugin depends on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def folders_of(requirements: Iterable[str]) -> list[str]:
    """The folders of these packages and of all they require in turn; each once. What is not installed, as an optional
    requirement may be, has none."""
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
        waiting += package.requires or ()
    return [*folders]
