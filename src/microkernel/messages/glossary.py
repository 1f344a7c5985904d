"""The glossary: one word for one thing, in English and in Chinese."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Term:
    """A term and its meaning in one line. ``also`` lists other words by which it is found.

    ``state`` marks the names of lifecycle states.
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
    """Return all terms in a useful reading order."""
    return list(_terms())


def find(word: str) -> Term | None:
    """Return the term for a word in either language, ignoring case, hyphens and a plural s; None if there is none."""
    key = _key(word)
    found = _index().get(key)
    return found if found or not key.endswith("s") else _index().get(key[:-1])


def state_word(state: str, language: str) -> str:
    """Return the word for a lifecycle state; an unknown state is returned unchanged."""
    term = _index().get(_key(state))
    return term.word(language) if term and term.state and term.en == state else state
