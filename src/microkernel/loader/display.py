"""A path as its user would write it. Apart from ``files``, which opens what it names with ``beneath``."""

from __future__ import annotations

import os

from microkernel.errors import valid_text


def display_path(path: str) -> str:
    """The path as its user would write it: relative when it lies below the working folder, and valid Unicode."""
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:
        return valid_text(path)
    return valid_text(path.removeprefix(here))
