"""The project's words: one word for one thing, in English and in Chinese."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Term:
    """A word with its meaning in one line. ``also``: other spellings under which it is found.

    ``state``: it is the name of a lifecycle state.
    """

    en: str
    zh: str
    en_means: str
    zh_means: str
    also: tuple[str, ...] = ()
    state: bool = False

    def word(self, language: str) -> str:
        return self.zh if language == "zh" else self.en

    def means(self, language: str) -> str:
        return self.zh_means if language == "zh" else self.en_means


@cache
def _terms() -> tuple[Term, ...]:
    entries = tomllib.loads((files(__package__) / "glossary.toml").read_text(encoding="utf-8"))["term"]
    return tuple(Term(**{**entry, "also": tuple(entry.get("also", ()))}) for entry in entries)


@cache
def _index() -> dict[str, Term]:
    index: dict[str, Term] = {}
    for term in _terms():
        for name in (term.en, term.zh):
            index[_key(name)] = term
    for term in _terms():
        for name in term.also:
            index.setdefault(_key(name), term)
    return index


def _key(word: str) -> str:
    return " ".join(word.casefold().replace("-", " ").replace("_", " ").split())


def glossary() -> list[Term]:
    """All terms in the order in which a newcomer would want to read them."""
    return list(_terms())


def find(word: str) -> Term | None:
    """The term for a word in either language; upper or lower case, ``dead letter`` and ``dead-letter`` are one."""
    key = _key(word)
    found = _index().get(key)
    return found if found or not key.endswith("s") else _index().get(key[:-1])


def state_word(state: str, language: str) -> str:
    """A lifecycle state as it is shown; a state that is not known is shown as it is."""
    term = _index().get(_key(state))
    return term.word(language) if term and term.state and term.en == state else state
