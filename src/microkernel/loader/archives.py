"""Files in an archive on ``sys.path``, a wheel or a zip file, by paths as Python writes them: ``x.whl/pkg/mod.py``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

T = TypeVar("T")


def split(path: str) -> tuple[str, str] | None:
    """Return the archive that a path leads into and the path inside it; None for other paths."""
    archive, inside = path, ""
    while archive and not os.path.lexists(archive):
        archive, _, name = archive.rpartition("/")
        inside = f"{name}/{inside}".rstrip("/")
    return (archive, inside) if inside and os.path.isfile(archive) and _is_zip(archive) else None


def sizes_in(folder: str) -> dict[str, int] | None:
    """Return the sizes of all files below a folder in an archive, as ``files_in`` names them; None if there is no
    such folder."""
    return _each_below(folder, lambda _, file: file.file_size)


def files_in(folder: str) -> dict[str, bytes] | None:
    """Return all files below a folder in an archive by relative path; None if there is no such folder."""
    return _each_below(folder, lambda archive, file: archive.read(file))


def _each_below(folder: str, take: Callable[[ZipFile, ZipInfo], T]) -> dict[str, T] | None:
    place = split(folder)
    if place is None:
        return None
    archive, inside = place
    with _opened(archive) as content:
        below = [each for each in content.infolist() if each.filename.startswith(f"{inside}/") and not each.is_dir()]
        return {each.filename[len(inside) + 1 :]: take(content, each) for each in below} or None


def read(path: str, limit: int | None = None) -> bytes | None:
    """Read a file in an archive; None if the path does not lead into one. At most one byte more than ``limit`` is
    read."""
    place = split(path)
    if place is None:
        return None
    with _opened(place[0]) as content, suppress(KeyError), content.open(place[1]) as file:
        return file.read(-1 if limit is None else limit + 1)
    return None


def _is_zip(path: str) -> bool:
    from zipfile import is_zipfile  # with the compressors a fortieth of a kernel's start, which rarely needs it

    return is_zipfile(path)


def _opened(archive: str) -> ZipFile:
    from zipfile import ZipFile

    return ZipFile(archive)
