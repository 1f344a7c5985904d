"""One file: its bytes in, what is seen out. Never raises, whatever the bytes are."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeGuard

from microkernel.errors import PluginLoadError
from microkernel.loader.auditor.findings import Finding, Place, Seen, Use
from microkernel.loader.auditor.tables import NATIVE, NATIVE_MAGIC
from microkernel.loader.auditor.texts import scan
from microkernel.loader.auditor.visitor import visit
from microkernel.loader.files import decode
from microkernel.loader.imports import crossings, imports
from microkernel.loader.syntax import parse

LARGEST = 1 << 20
"""Bytes of one file that are looked at: a tree takes a hundred times as much memory as its source."""


def look(data: bytes, file: str, name: str = "", forbidden: Collection[str] = ()) -> list[Seen]:
    """What there is in a source. ``forbidden``: plugins that it may not import."""
    text = _text(data)
    if isinstance(text, int):
        return [Finding(Place(file), "MK0802", {"offset": text})]
    seen: list[Seen] = list(scan(text[:LARGEST], file))  # its columns are characters already
    if len(data) > LARGEST:
        return [*seen, Finding(Place(file), "MK0804", {"reason": f"it is larger than {LARGEST >> 20} MiB"})]
    try:
        tree = parse(data, file)
    except PluginLoadError as error:
        return [*seen, Finding(Place(file, error.fields.get("line", 0), 1), "MK0801", {"reason": _reason(error)})]
    counted = _in_characters([*_crossings(tree, file, forbidden), *visit(tree, file, name, forbidden)], text)
    return _once([*seen, *counted])


def look_at_data(data: bytes, file: str) -> list[Seen]:
    """What there is in a file that is no Python source: compiled code, secrets."""
    if file.endswith(NATIVE) or data.startswith(NATIVE_MAGIC):
        return [Finding(Place(file), "MK0805", {"what": file.rpartition("/")[2]})]
    text = _text(data[:LARGEST])
    return [] if isinstance(text, int) or "\0" in text else list(scan(text, file))


def imported(data: bytes, file: str) -> set[str]:
    """The top-level modules that a source imports; nothing where it is no source."""
    try:
        return {each.top for each in imports(parse(data, file))} if len(data) <= LARGEST else set()
    except PluginLoadError:
        return set()


def _reason(error: PluginLoadError) -> str:
    """Why it was not parsed, without the file and the line, which the finding has."""
    return str(error.fields.get("reason") or error.text.partition(": ")[2])


def _text(data: bytes) -> str | int:
    """The text, or the first byte that is none."""
    try:
        return decode(data, "", PluginLoadError)
    except PluginLoadError as error:
        return int(error.offset)


def _crossings(tree: ast.Module, file: str, forbidden: Collection[str]) -> Iterator[Seen]:
    for wrong, instead in crossings(tree, forbidden) if forbidden else ():
        yield Finding(Place(file, wrong.line, 1), "MK0803", {"other": wrong.top, "instead": instead})


def _once(seen: Iterable[Seen]) -> list[Seen]:
    """Without what is said twice: the import of what is used further down, a key that has a telling name besides."""
    kept = {_key(each): each for each in reversed(list(seen))}
    used = {(each.id, _top(each)) for each in kept.values() if isinstance(each, Finding) and not _is_import(each)}
    return [each for each in reversed(kept.values()) if not (_is_import(each) and (each.id, _top(each)) in used)]


def _key(seen: Seen) -> tuple[object, ...]:
    if isinstance(seen, Use):
        return seen.place.line, seen.permission, seen.value
    return seen.place.line, seen.id, "" if seen.id == "MK0808" else str(seen.fields)


def _is_import(seen: Seen) -> TypeGuard[Finding]:
    return isinstance(seen, Finding) and seen.is_import


def _top(finding: Finding) -> str:
    return str(finding.fields.get("what", "")).partition(".")[0]


def _in_characters(seen: Iterable[Seen], text: str) -> list[Seen]:
    """Columns as an editor counts them; Python counts bytes."""
    lines = [] if text.isascii() else text.split("\n")
    return [replace(each, place=_counted(each.place, lines)) for each in seen] if lines else list(seen)


def _counted(place: Place, lines: Sequence[str]) -> Place:
    if not 0 < place.line <= len(lines) or lines[place.line - 1].isascii():
        return place
    before = lines[place.line - 1].encode()[: max(0, place.column - 1)]
    return replace(place, column=len(before.decode(errors="ignore")) + 1)
