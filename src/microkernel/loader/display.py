"""Paths for people. Separate from ``files``, because ``beneath``, which ``files`` uses to open files, needs it too."""

from __future__ import annotations

import os

from microkernel.errors import valid_text


def display_path(path: str) -> str:
    """Return the path as its user would write it: relative if it is below the working folder, and valid Unicode."""
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:
        return valid_text(path)
    return valid_text(path.removeprefix(here))
