"""A plugin's data folder: private to the kernel's user, and owned by one project."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from microkernel.errors import ConfigError, valid_text
from microkernel.wire.folders import make_private

# Name of the file, in the folder of all data folders, that contains the project they belong to. No plugin's folder has
# this name.
OWNER = "owner"
_OURS = "/microkernel/plugins/"


def folder_name(plugin: str) -> str:
    """Return the name of a plugin's data folder."""
    return f"_{plugin}" if plugin == OWNER else plugin


def claim_around(data_folder: str, project: str, source: str = "") -> None:
    """Claim the folder that contains a data folder for ``project``, and the data folder for the plugin whose code
    starts in the file ``source``. Create the containing folder if it is missing. Does nothing without a project.

    Raises OSError; ConfigError MK0722 if it belongs to another project, MK0725 if to another plugin of the same name.
    """
    if project and hasattr(os, "geteuid"):  # a wasm guest sees only its own folder; its host has claimed it
        around = Path(data_folder).parent
        make_private(around)
        claim(str(around), project)
        if source and _OURS not in source:
            _claim_for(around / f".{Path(data_folder).name}.place", data_folder, valid_text(source))


def _claim_for(file: Path, data_folder: str, source: str) -> None:
    """Claim a data folder for a plugin by writing the path of its code to ``file``, which lies next to the folder.

    A project may have several configurations with different plugins. A folder whose plugin no longer exists was moved,
    so it is claimed again.
    """
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
        os.link(beside, file)  # a link, because it must not replace what another kernel has just written
    except FileExistsError:
        _claim_for(file, data_folder, source)
    finally:
        beside.unlink(missing_ok=True)


def _identity(source: str) -> str:
    """Return an identity of source code: the same for every path that leads to it, and for an installed plugin in every
    environment."""
    return os.path.realpath(source).rpartition("-packages/")[2]


def claim(folder: str, project: str) -> None:
    """Claim a folder for a project. A folder without an owner, as an older kernel left it, is taken over.

    Raises OSError; ConfigError MK0722 if it belongs to another project.
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
    """Raise ConfigError MK0722 if a folder belongs to another project. A missing or incompletely written owner does not
    count."""
    try:
        with open(os.path.join(folder, OWNER), encoding="utf-8", errors="replace") as file:
            owner = file.readline()
    except FileNotFoundError:
        return
    if owner.endswith("\n") and owner != f"{project}\n":
        raise ConfigError("MK0722", path=folder, owner=owner.rstrip("\n"))


def close_to_others(folder: str) -> None:
    """Remove the permissions that other users have on a folder of ours. For root, its group keeps its permissions,
    which a confined worker of root needs."""
    if not hasattr(os, "geteuid"):
        return  # a wasm guest has no users; its host has done it
    found, others = os.stat(folder), 0o077 if os.geteuid() else 0o007
    if found.st_uid == os.geteuid() and found.st_mode & others:
        os.chmod(folder, stat.S_IMODE(found.st_mode) & ~others)
