"""``mk explain``: what a message means, why it matters, what we do about it and what you can do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from microkernel.errors import KernelError
from microkernel.messages import terminal_width
from microkernel.messages.catalog import Catalog, Entry
from microkernel.messages.formatting import plain

_CODE = re.compile(r"\s*(?:mk)?[\s-]*(\d{1,4})\s*", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_FORM = "; ids look like MK0101"
_SECTIONS = ("happened", "why", "we", "you")
_GAP = " " * 10
_NARROW = 20
"""Below this many cells for the text, wrapping would only hurt."""


def message_id(code: str) -> str:
    """The id that somebody typed: ``0207``, ``mk0207`` and ``207`` are ``MK0207``. What is none is given back."""
    match = _CODE.fullmatch(code)
    return f"MK{match[1]:0>4}" if match else code.strip()


def nearest(code: str, ids: Iterable[str], most: int = 3) -> list[str]:
    """The ids most like ``code``: the most digits in common, then the nearest number."""
    wanted = message_id(code).removeprefix("MK")
    number = int(wanted) if wanted.isdecimal() else 0

    def distance(id: str) -> tuple[int, int]:
        digits = id.removeprefix("MK")
        in_place = sum(a == b for a, b in zip(wanted, digits, strict=False))
        anywhere = sum(min(wanted.count(digit), digits.count(digit)) for digit in set(digits))
        return -in_place - anywhere, abs(int(digits) - number)

    return sorted(ids, key=distance)[:most]


def explain(id: str, catalog: Catalog, other: Catalog) -> list[tuple[str, str]]:
    """Pairs of heading and text; the first pair is the title line: ``("MK0207 · warn · its title", "other title")``.

    ``other`` is the catalog of the second language; given the same one twice, the second title is empty. Sections with
    nothing to say are left out. An unknown id raises KernelError (MK0720) with the nearest ids.
    """
    entry = _known(id, catalog)
    level = entry.level.word(catalog.language)
    title = f"{entry.id} · {level} · {entry.title}", "" if other is catalog else other.title(entry.id)
    sections = [(catalog.word(f"explain.{name}"), getattr(entry, name)) for name in _SECTIONS]
    return [title, *((heading, text) for heading, text in sections if text)]


def render(id: str, catalog: Catalog, other: Catalog, columns: int = 0) -> str:
    """The explanation as plain text, headings aligned; lines are wrapped at ``columns`` (0: not at all)."""
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
    """MK0720: with the nearest ids, if it was meant to be one."""
    near = f"; the nearest: {', '.join(nearest(id, catalog.ids()))}"
    return KernelError("MK0720", message=plain(id.strip()), suggestion=near if _DIGIT.search(id) else _FORM)
