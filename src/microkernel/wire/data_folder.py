"""The folder that a plugin keeps its data in: for the kernel's user alone, and for one project."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from microkernel.errors import ConfigError, valid_text
from microkernel.wire.folders import make_private

OWNER = "owner"
"""The file beside the data folders that names the project they belong to. No plugin's folder has this name."""
_OURS = "/microkernel/plugins/"


def folder_name(plugin: str) -> str:
    """The name of a plugin's data folder."""
    return f"_{plugin}" if plugin == OWNER else plugin


def claim_around(data_folder: str, project: str, source: str = "") -> None:
    """Have the folder around a data folder belong to ``project``, and the data folder to the plugin whose code begins
    in the file ``source``; make the folder around it if it is missing. Does nothing without a project.

    Raises OSError; ConfigError MK0722 if it belongs to another project, MK0725 if to another plugin of that name.
    """
    if project and hasattr(os, "geteuid"):  # a wasm guest sees its own folder alone; its host has done it
        around = Path(data_folder).parent
        make_private(around)
        claim(str(around), project)
        if source and _OURS not in source:
            _claim_for(around / f".{Path(data_folder).name}.place", data_folder, valid_text(source))


def _claim_for(file: Path, data_folder: str, source: str) -> None:
    """A project may have several configurations, each with plugins of its own; so ``file``, beside the data folder, has
    where the code of its plugin begins. What belonged to a plugin that is no longer there was moved."""
    try:
        owner = file.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except FileNotFoundError:
        owner = ""
    if owner == source:
        return
    if owner and os.path.lexists(owner) and _identity(owner) != _identity(source):
        raise ConfigError("MK0725", path=data_folder, owner=owner, file=str(file))
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    beside.write_text(f"{source}\n", encoding="utf-8")
    if owner:
        os.replace(beside, file)
        return
    try:
        os.link(beside, file)  # not over what another kernel has just written
    except FileExistsError:
        _claim_for(file, data_folder, source)
    finally:
        beside.unlink(missing_ok=True)


def _identity(source: str) -> str:
    """A plugin is the same by whatever path it is reached, and an installed one in every environment."""
    return os.path.realpath(source).rpartition("-packages/")[2]


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
