"""Shows what a plugin asks for to the person who may approve it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from . import view
from .translator import Translator, plain

_FILES = {"fs.read": "read", "fs.write": "write"}
_STYLES = {"+": "green", "-": "red", "~": "yellow"}
Review = Mapping[str, Any]


def is_fine(review: Review) -> bool:
    """Return whether nothing needs to be approved."""
    return not (review["added"] or review["altered"] or review["approved_path"])


def is_limits_alone(review: Review) -> bool:
    """Return whether only limits above the defaults are asked for. Such a plugin also runs without approval."""
    is_else = review["altered"] or review["approved_path"]
    return not is_else and all(line.startswith("limits ") for line in review["added"])


def question(review: Review, translator: Translator) -> list[RenderableType]:
    """Return what a plugin asks for; the difference, if it was approved before."""
    known = bool(review["approved_version"])
    title = translator.word("grant.asks_more" if known and review["added"] else "grant.asks", **_names(review))
    if review["approved_path"]:
        title = translator.word("grant.moved", **_names(review))
    elif not review["added"]:
        title = translator.word("grant.altered", **_names(review))
    marks = ("+", "-") if known else (" ", " ")
    rows = [
        *_rows(marks[0], review["added"], translator),
        *(_rows(marks[1], review["removed"], translator) if known else ()),
    ]
    rows += [[_mark("~"), plain(name), ""] for name in review["changed"]]
    if review["approved_path"]:
        rows += [[_mark("-"), translator.word("info.path"), plain(review["approved_path"])]]
        rows += [[_mark("+"), translator.word("info.path"), plain(review["path"])]]
    return [Text(plain(title)), view.Columns([view.Column("")] * 2 + [view.Column("", fold=True)], rows, head=False)]


def details(review: Review, translator: Translator) -> list[RenderableType]:
    """Return all details of a review."""
    rows = [
        [translator.word("info.path"), plain(review["path"])],
        [translator.word("ps.level"), review["level"]],
        [translator.word("ps.version"), view.version_of(review["version"])],
        [translator.word("grant.approved"), view.or_nothing(review["approved_version"])],
        ["SHA-256", review["digest"]],
        [translator.word("info.asked"), "\n".join(review["asked"])],
    ]
    return [view.Columns([view.Column(""), view.Column("", fold=True)], rows, head=False)]


def _names(review: Review) -> dict[str, str]:
    return {"name": review["name"], "version": view.version_of(review["version"])}


def _rows(mark: str, lines: Iterable[str], translator: Translator) -> list[view.Row]:
    return [[_mark(mark), *_wish(line, translator)] for line in lines]


def _mark(mark: str) -> Text:
    return Text(f" {mark}", _STYLES.get(mark, ""))


def _wish(line: str, translator: Translator) -> tuple[str, str]:
    """Return a permission, such as ``net smtp.example.com:587``, in the reader's language."""
    kind, _, what = line.partition(" ")
    if kind in _FILES:
        return translator.word("grant.files"), f"{translator.word(f'grant.{_FILES[kind]}')}  {what}"
    return translator.word(f"grant.{kind.replace('.', '_')}"), what
