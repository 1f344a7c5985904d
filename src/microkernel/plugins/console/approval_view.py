"""What a plugin asks for, as it is shown to whoever may approve it."""

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
    """Nobody has to be asked."""
    return not (review["added"] or review["altered"] or review["approved_path"])


def is_limits_alone(review: Review) -> bool:
    """Whether it asks for limits above the defaults and nothing else: then it runs also if nobody approves."""
    is_else = review["altered"] or review["approved_path"]
    return not is_else and all(line.startswith("limits ") for line in review["added"])


def question(review: Review, tongue: Translator) -> list[RenderableType]:
    """What is asked for; of a plugin that was approved before, the difference."""
    known = bool(review["approved_version"])
    title = tongue.word("grant.asks_more" if known and review["added"] else "grant.asks", **_names(review))
    if review["approved_path"]:
        title = tongue.word("grant.moved", **_names(review))
    elif not review["added"]:
        title = tongue.word("grant.altered", **_names(review))
    marks = ("+", "-") if known else (" ", " ")
    rows = [*_rows(marks[0], review["added"], tongue), *(_rows(marks[1], review["removed"], tongue) if known else ())]
    rows += [[_mark("~"), plain(name), ""] for name in review["changed"]]
    if review["approved_path"]:
        rows += [[_mark("-"), tongue.word("info.path"), plain(review["approved_path"])]]
        rows += [[_mark("+"), tongue.word("info.path"), plain(review["path"])]]
    return [Text(plain(title)), view.Columns([view.Column("")] * 2 + [view.Column("", fold=True)], rows, head=False)]


def details(review: Review, tongue: Translator) -> list[RenderableType]:
    """All that is known of it."""
    rows = [
        [tongue.word("info.path"), plain(review["path"])],
        [tongue.word("ps.level"), review["level"]],
        [tongue.word("ps.version"), view.version_of(review["version"])],
        [tongue.word("grant.approved"), view.or_nothing(review["approved_version"])],
        ["SHA-256", review["digest"]],
        [tongue.word("info.asked"), "\n".join(review["asked"])],
    ]
    return [view.Columns([view.Column(""), view.Column("", fold=True)], rows, head=False)]


def _names(review: Review) -> dict[str, str]:
    return {"name": review["name"], "version": view.version_of(review["version"])}


def _rows(mark: str, lines: Iterable[str], tongue: Translator) -> list[view.Row]:
    return [[_mark(mark), *_wish(line, tongue)] for line in lines]


def _mark(mark: str) -> Text:
    return Text(f" {mark}", _STYLES.get(mark, ""))


def _wish(line: str, tongue: Translator) -> tuple[str, str]:
    """``net smtp.example.com:587`` in the reader's words."""
    kind, _, what = line.partition(" ")
    if kind in _FILES:
        return tongue.word("grant.files"), f"{tongue.word(f'grant.{_FILES[kind]}')}  {what}"
    return tongue.word(f"grant.{kind.replace('.', '_')}"), what
