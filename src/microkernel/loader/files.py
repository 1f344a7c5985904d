"""Reads files, with errors that name the problem in terms of the file's author."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from microkernel.errors import KernelError, shortage_in
from microkernel.loader import archives
from microkernel.loader.beneath import open_regular
from microkernel.loader.display import display_path

E = TypeVar("E", bound=KernelError)


def read_bytes(path: str, error: type[KernelError], limit: int | None = None) -> bytes:
    """Return the content of a regular file.

    Raises ``error``: MK0101 if it does not exist, MK0102 if it cannot be read, MK0139 if it has more than ``limit``
    bytes.
    """
    if (archived := archives.read(path, limit)) is not None:
        check_size(len(archived), limit, path, error)
        return archived
    try:
        with open_regular(path) as file:
            check_size(os.fstat(file.fileno()).st_size, limit, path, error)
            content = file.read(-1 if limit is None else limit + 1)
        check_size(len(content), limit, path, error)  # it may have grown
        return content
    except (OSError, ValueError) as cause:
        raise unreadable(path, cause, error) from None


def check_size(size: int, limit: int | None, path: str, error: type[KernelError]) -> None:
    """Raise ``error`` MK0139 for a file of more than ``limit`` bytes."""
    if limit is not None and size > limit:
        raise error("MK0139", path=display_path(path), size=size, most=limit)


def is_there(path: str) -> bool:
    """Return whether a file or link exists, also in an archive."""
    return os.path.lexists(path) or archives.read(path, 0) is not None


def is_folder(path: str) -> bool:
    return os.path.isdir(path) or archives.sizes_in(path) is not None


def unreadable(path: str, cause: OSError | ValueError, error: type[E]) -> E:
    """Return the error for an OSError about ``path``. It notes whether a system resource was exhausted."""
    failure = _unreadable(path, cause, error)
    failure.shortage = shortage_in(cause)
    return failure


def _unreadable(path: str, cause: OSError | ValueError, error: type[E]) -> E:
    if not isinstance(cause, OSError):
        return error("MK0102", path=display_path(path), reason=str(cause))
    if not isinstance(cause, FileNotFoundError):
        return error("MK0102", path=display_path(path), reason=(cause.strerror or str(cause)).lower())
    if os.path.islink(path):
        return error("MK0102", path=display_path(path), reason=f"the link leads nowhere, to {os.readlink(path)}")
    return error("MK0101", path=display_path(path))


def unforeseen(path: str, cause: Exception, error: type[E]) -> E:
    """Return the error for an unexpected exception while reading a plugin. It affects only that plugin."""
    failure = error(
        "MK0146", path=display_path(path), reason=f"{type(cause).__name__}: {str(cause)[:200]}".rstrip(": ")
    )
    failure.shortage = shortage_in(cause) if isinstance(cause, OSError) else ""
    return failure


def missing(path: str, error: type[E]) -> E:
    """Return the error for a plugin or plugin folder that does not exist, with the command that writes one."""
    folder, name = os.path.split(path.rstrip("/"))
    if name.endswith(".py"):
        name = name.removesuffix(".py")
    else:
        folder, name = path.rstrip("/"), "NAME"
    where = "" if os.path.normpath(folder or ".") == _PLUGINS else f" --folder {display_path(folder or '.')}"
    return error("MK0101", path=display_path(path), cure=f"; to write a plugin: mk new {name}{where}")


# The folder that `mk new` writes to and `mk run` searches.
_PLUGINS = "plugins"


def decode(data: bytes, path: str, error: type[KernelError]) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises ``error`` MK0104 with the offset of the first invalid
    byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        mark = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        raise error("MK0104", path=display_path(path), offset=cause.start + mark) from None


def read_text(path: str, error: type[KernelError], limit: int | None = None) -> str:
    """Read a text file. Raises ``error``: MK0101, MK0102, MK0104 or MK0139."""
    return decode(read_bytes(path, error, limit), path, error)


def parse_toml(text: str, path: str, error: type[KernelError]) -> dict[str, Any]:
    """Parse TOML. Raises ``error`` MK0111 with the line."""
    import tomllib

    try:
        return tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as cause:  # everything that a text can make it raise
        raise error("MK0111", path=display_path(path), reason=str(cause) or type(cause).__name__) from None


def read_toml(path: str, error: type[KernelError]) -> dict[str, Any]:
    """Read a TOML file. Raises ``error``: MK0101, MK0102, MK0104 or MK0111."""
    return parse_toml(read_text(path, error), path, error)
