"""The folder that a plugin keeps its data in: for the kernel's user alone, and for one project."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from microkernel.errors import ConfigError
from microkernel.wire.folders import make_private

OWNER = "owner"
"""The file beside the data folders that names the project they belong to. No plugin's folder has this name."""


def folder_name(plugin: str) -> str:
    """The name of a plugin's data folder."""
    return f"_{plugin}" if plugin == OWNER else plugin


def claim_around(data_folder: str, project: str) -> None:
    """Have the folder around a data folder belong to ``project``; make it if it is missing. Does nothing without one.

    Raises OSError; ConfigError MK0722 if it belongs to another.
    """
    if project and hasattr(os, "geteuid"):  # a wasm guest sees its own folder alone; its host has done it
        around = Path(data_folder).parent
        make_private(around)
        claim(str(around), project)


def claim(folder: str, project: str) -> None:
    """Have a folder belong to a project. One that nobody owns yet, as an older kernel left it, is taken over.

    Raises OSError; ConfigError MK0722 if it belongs to another.
    """
    file = os.path.join(folder, OWNER)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        check_owner(folder, project)
    else:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(f"{project}\n")


def check_owner(folder: str, project: str) -> None:
    """Raises ConfigError MK0722 if a folder belongs to another project. An owner that is not there, or was never
    written to its end, is none."""
    try:
        with open(os.path.join(folder, OWNER), encoding="utf-8", errors="replace") as file:
            owner = file.readline()
    except FileNotFoundError:
        return
    if owner.endswith("\n") and owner != f"{project}\n":
        raise ConfigError("MK0722", path=folder, owner=owner.rstrip("\n"))


def close_to_others(folder: str) -> None:
    """Take away what others may do with a folder of ours; what root's group may, a confined worker of root's needs."""
    if not hasattr(os, "geteuid"):
        return  # a wasm guest has no users; its host has done it
    found, others = os.stat(folder), 0o077 if os.geteuid() else 0o007
    if found.st_uid == os.geteuid() and found.st_mode & others:
        os.chmod(folder, stat.S_IMODE(found.st_mode) & ~others)
