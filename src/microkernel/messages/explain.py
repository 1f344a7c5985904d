"""``mk explain``: the meaning of a message, its consequences, the action of the kernel and that of the user."""

from __future__ import annotations

import re
from collections.abc import Iterable

from microkernel.errors import KernelError
from microkernel.messages import terminal_width
from microkernel.messages.catalog import Catalog, Entry
from microkernel.messages.formatting import plain

_CODE = re.compile(r"\s*(?:mk)?[\s-]*(\d{1,4})\s*", re.IGNORECASE)
_FORM = "; an id is MK and four digits, such as MK0101"
_SECTIONS = ("what_happened", "why", "kernel_action", "your_action")
_GAP = " " * 10
# Fewest cells of text per line for which lines are wrapped.
_NARROW = 20


def message_id(code: str) -> str:
    """Return the id for a code as people type it: ``0207``, ``mk0207`` and ``207`` give ``MK0207``.

    A code that is not an id is returned stripped but otherwise unchanged.
    """
    match = _CODE.fullmatch(code)
    return f"MK{match[1]:0>4}" if match else code.strip()


def nearest(code: str, ids: Iterable[str], limit: int = 3) -> list[str]:
    """Return the ids that were probably meant by ``code``: those with two digits exchanged, then those with one
    character that differs, first in the order of the difference between the numbers. Often there are none."""
    requested = message_id(code).removeprefix("MK").upper()
    number = int(requested) if requested.isdecimal() else 0

    def order(id: str) -> tuple[bool, int]:
        digits = id.removeprefix("MK")
        return sorted(digits) != sorted(requested), abs(int(digits) - number)

    return sorted((id for id in ids if _is_near(requested, id.removeprefix("MK"))), key=order)[:limit]


def _is_near(requested: str, digits: str) -> bool:
    if len(requested) != len(digits):
        return False
    differing = [at for at, digit in enumerate(digits) if requested[at] != digit]
    return len(differing) == 1 or (len(differing) == 2 and sorted(requested) == sorted(digits))


def explain(id: str, catalog: Catalog, other: Catalog) -> list[tuple[str, str]]:
    """Return pairs of heading and text; the first is the title line: ``("MK0207 · warn · its title", "other title")``.

    ``other`` is the catalog of the second language; if it is the same as ``catalog``, the second title is empty. Empty
    sections are omitted.

    Raises KernelError MK0720, with near ids if there are some, if the id is unknown.
    """
    entry = _known(id, catalog)
    level = entry.level.word(catalog.language)
    title = f"{entry.id} · {level} · {entry.title}", "" if other is catalog else other.title(entry.id)
    sections = [(catalog.word(f"explain.{name}"), getattr(entry, name)) for name in _SECTIONS]
    return [title, *((heading, text) for heading, text in sections if text)]


def render(id: str, catalog: Catalog, other: Catalog, columns: int = 0) -> str:
    """Return the explanation as plain text with aligned headings, wrapped at ``columns`` (0: not wrapped)."""
    (title, second), *sections = explain(id, catalog, other)
    indent = max((terminal_width.width(heading) for heading, _ in sections), default=0) + 1
    lines = [f"{title}{_GAP}{second}".rstrip(), ""]
    for heading, text in sections:
        room = columns - indent
        first, *rest = terminal_width.wrap(text, room) if room >= _NARROW else [text]
        lines.append(terminal_width.pad(heading, indent) + first)
        lines.extend(" " * indent + line for line in rest)
    return "\n".join(lines)


def _known(id: str, catalog: Catalog) -> Entry:
    entry = catalog.entry(message_id(id))
    if entry is None:
        raise unknown(id, catalog)
    return entry


def unknown(id: str, catalog: Catalog) -> KernelError:
    """Return the error MK0720, with near ids if there are some, else with the form of ids."""
    near = nearest(id, catalog.ids())
    suggestion = f"; the nearest: {', '.join(near)}" if near else _FORM
    return KernelError("MK0720", message=plain(id.strip()), suggestion=suggestion)
