"""The catalogs: a text for each message id, and the command line's own words, in English and in Chinese."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, cast

from microkernel.errors import KernelError
from microkernel.messages.formatting import Formatter
from microkernel.messages.levels import MessageLevel
from microkernel.messages.reason_translation import chinese, read

Language = Literal["en", "zh"]

_POSIX = ("LC_ALL", "LC_MESSAGES", "LANG")


@dataclass(frozen=True, slots=True)
class Entry:
    """One message. The last four may be empty: there is nothing worth saying."""

    id: str
    level: MessageLevel
    text: str
    title: str
    happened: str = ""
    why: str = ""
    we: str = ""
    you: str = ""


def language(explicit: str | None = None, environ: Mapping[str, str] | None = None) -> Language:
    """The first of ``MK_LANG``, ``explicit`` (the configuration), ``LC_ALL``, ``LC_MESSAGES``, ``LANG`` that is set.

    What is not Chinese is English: ``zh_CN.UTF-8`` and ``zh-Hans`` are ``zh``; ``C``, ``de_DE`` and nothing are ``en``.
    """
    env = os.environ if environ is None else environ
    wishes = [env.get("MK_LANG"), explicit, *(env.get(name) for name in _POSIX)]
    first = next((wish.strip() for wish in wishes if wish and wish.strip()), "")
    return "zh" if first[:2].lower() == "zh" else "en"


class Catalog:
    """Everything in one language. What it lacks it takes from the English one.

    ``Catalog.load("zh")`` gives the same object each time; files are read at the first use.
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self._formatter = Formatter(chinese, comma="、") if language == "zh" else Formatter()

    @staticmethod
    def load(language: str = "en") -> Catalog:
        """The catalog of ``en`` or ``zh``; for any other language the English one."""
        return _load("zh" if language == "zh" else "en")

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {id: _entry(id, table) for id, table in read(f"{self.language}.toml").items()}

    @cached_property
    def _words(self) -> dict[str, str]:
        return dict(_flat(read(f"ui_{self.language}.toml")))

    @property
    def _english(self) -> Catalog | None:
        return None if self.language == "en" else _load("en")

    def ids(self) -> list[str]:
        return sorted(self._entries)

    def entry(self, id: str) -> Entry | None:
        """The message of this id, from the English catalog if need be; None where there is no such message."""
        found = self._entries.get(id)
        return found if found or not self._english else self._english.entry(id)

    def text(self, id: str, fields: Mapping[str, Any]) -> str:
        """The message as one line. Never raises: a missing field shows its name, an unknown id its fields."""
        entry = self.entry(id)
        template = entry.text if entry else " ".join([id, *(f"{name}={{{name}!r}}" for name in fields)])
        return self._formatter.fill(template, fields)

    def title(self, id: str) -> str:
        entry = self.entry(id)
        return entry.title if entry else id

    def level(self, id: str) -> MessageLevel:
        entry = self.entry(id)
        return entry.level if entry else MessageLevel.ERROR

    def word(self, key: str, /, **fields: Any) -> str:
        """A word or line of the command line's own: ``word("ps.plugin")``, ``word("run.found", count=5)``.

        An unknown key is shown as it is.
        """
        found = self._words.get(key)
        if found is None:
            return self._english.word(key, **fields) if self._english else key
        return self._formatter.fill(found, fields) if fields else found

    def words(self) -> dict[str, str]:
        """All of the command line's words by key."""
        return dict(self._words)


def translate(error: KernelError, catalog: Catalog) -> str:
    """``MK0103  text``: the line that is shown for an error."""
    text = catalog.text(error.id, error.fields)
    return f"{error.id}  {text}" if catalog.entry(error.id) else text


@cache
def _load(language: Language) -> Catalog:
    return Catalog(language)


def _entry(id: str, table: Mapping[str, str]) -> Entry:
    return Entry(
        id=id,
        level=MessageLevel(table["level"]),
        text=table["text"],
        title=table.get("title", id),
        **{key: table.get(key, "") for key in ("happened", "why", "we", "you")},
    )


def _flat(table: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Tables within tables as dotted keys: ``{"ps": {"pid": "pid"}}`` is ``[("ps.pid", "pid")]``."""
    pairs: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            pairs.extend(_flat(cast(dict[str, Any], value), f"{above}{key}."))
        else:
            pairs.append((above + key, str(value)))
    return pairs
