"""Inspects one file, from its bytes to findings. Never raises, whatever the bytes are."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from microkernel.errors import PluginLoadError
from microkernel.inspector.sources import NotParsed, cross_plugin_imports, parse
from microkernel.loader.auditor.findings import LEVELS, Finding, Place, Seen, Use
from microkernel.loader.auditor.tables import NATIVE, NATIVE_MAGIC
from microkernel.loader.auditor.texts import scan
from microkernel.loader.auditor.visitor import visit
from microkernel.loader.byte_scan import scan_source
from microkernel.loader.files import decode

# Bytes of one file that are inspected. A syntax tree takes a hundred times the memory of its source.
LARGEST = 1 << 20


def inspect_source(data: bytes, file: str, name: str = "", forbidden: Collection[str] = ()) -> list[Seen]:
    """Inspect a source. ``forbidden``: plugins that it must not import."""
    text = _text(data)
    if isinstance(text, int):
        return [Finding(Place(file), "MK0802", {"offset": text})]
    seen: list[Seen] = list(scan(text[:LARGEST], file))  # its columns are characters already
    if len(data) > LARGEST:
        return [*seen, Finding(Place(file), "MK0804", {"reason": f"it is larger than {LARGEST >> 20} MiB"})]
    try:
        scan_source(text, file, PluginLoadError)
        tree = parse(text)
    except PluginLoadError as error:
        return [*seen, Finding(Place(file, error.line, 1), "MK0801", {"reason": error.text.partition(": ")[2]})]
    except NotParsed as failure:
        return [*seen, Finding(Place(file, failure.line, 1), "MK0801", {"reason": failure.reason})]
    counted = _in_characters([*_crossings(tree, file, forbidden), *visit(tree, file, name, forbidden)], text)
    return _once([*seen, *counted])


def inspect_data(data: bytes, file: str) -> list[Seen]:
    """Inspect a file that is not Python source: compiled code, secrets."""
    if file.endswith(NATIVE) or data.startswith(NATIVE_MAGIC):
        return [Finding(Place(file), "MK0805", {"what": file.rpartition("/")[2]})]
    text = _text(data[:LARGEST])
    return [] if isinstance(text, int) or "\0" in text else list(scan(text, file))


def as_json(seen: Iterable[Seen]) -> list[list[Any]]:
    """Convert results to JSON, to be sent to another process."""
    return [_row(each) for each in seen]


def _row(seen: Seen) -> list[Any]:
    place = [seen.place.file, seen.place.line, seen.place.column]
    if isinstance(seen, Use):
        return [*place, seen.permission, seen.value]
    return [*place, seen.id, dict(seen.fields), seen.is_import]


def from_json(rows: Any) -> list[Seen]:
    """Convert results from JSON. Raises ValueError or TypeError for results that ``inspect_source`` cannot have
    produced."""
    return [_seen(*row) for row in rows]


def _seen(file: str, line: int, column: int, what: str, *more: Any) -> Seen:
    place = Place(str(file), int(line), int(column))
    if len(more) == 1:
        return Use(place, str(what), str(more[0]))
    fields, is_import = more
    if what not in LEVELS or not isinstance(fields, dict):
        raise ValueError("no finding")
    return Finding(place, what, fields, is_import=bool(is_import))


def _text(data: bytes) -> str | int:
    """Return the text, or the offset of the first invalid byte."""
    try:
        return decode(data, "", PluginLoadError)
    except PluginLoadError as error:
        return int(error.offset)


def _crossings(tree: ast.Module, file: str, forbidden: Collection[str]) -> Iterator[Seen]:
    for wrong, instead in cross_plugin_imports(tree, forbidden) if forbidden else ():
        yield Finding(Place(file, wrong.line, 1), "MK0803", {"other": wrong.top, "instead": instead})


def _once(seen: Iterable[Seen]) -> list[Seen]:
    """Remove duplicates: imports of names that are used later, and random texts that are also known keys."""
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
    """Convert columns to characters, as editors count them; Python counts bytes."""
    lines = [] if text.isascii() else text.split("\n")
    return [replace(each, place=_counted(each.place, lines)) for each in seen] if lines else list(seen)


def _counted(place: Place, lines: Sequence[str]) -> Place:
    if not 0 < place.line <= len(lines) or lines[place.line - 1].isascii():
        return place
    before = lines[place.line - 1].encode()[: max(0, place.column - 1)]
    return replace(place, column=len(before.decode(errors="ignore")) + 1)
