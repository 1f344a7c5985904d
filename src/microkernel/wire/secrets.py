"""Values that are shown nowhere: they are cut out of whatever text an instance lets out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

HIDDEN = "***"
SHORTEST = 4
"""Characters that a secret must have to be cut out: to cut out shorter ones would spoil every text and hide nothing."""


class Secrets:
    """``cut`` may be called on any thread, also while values come."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values: frozenset[str] = frozenset()
        self._forms: tuple[str, ...] = ()
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        self.values = self.values | {str(value) for value in values}
        forms = {form for value in self.values for form in _forms(value) if len(form) >= SHORTEST}
        self._forms = tuple(sorted(forms, key=len, reverse=True))  # one may be a part of another

    def cut(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text


def _forms(value: str) -> Iterator[str]:
    """As it is, as Python and JSON quote it, and line by line: what is printed arrives in lines."""
    yield value
    yield repr(value)[1:-1]
    yield from (line for line in value.splitlines() if len(line) >= 2 * SHORTEST)
