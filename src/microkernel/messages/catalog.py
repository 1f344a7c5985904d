"""The catalogs: the texts of all message ids and of the command line, in English and Chinese."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, cast

from microkernel.errors import KernelError
from microkernel.messages.formatting import Formatter
from microkernel.messages.levels import MessageLevel
from microkernel.messages.reason_translation import chinese, read, separator

Language = Literal["en", "zh"]

_POSIX = ("LC_ALL", "LC_MESSAGES", "LANG")


@dataclass(frozen=True, slots=True)
class Entry:
    """One message. The last four fields are sections of ``mk explain`` and may be empty."""

    id: str
    level: MessageLevel
    text: str
    title: str
    what_happened: str = ""
    why: str = ""
    kernel_action: str = ""
    your_action: str = ""


def language(explicit: str | None = None, environ: Mapping[str, str] | None = None) -> Language:
    """Return the language of the first of these that is set: ``MK_LANG``, ``explicit`` (the configuration), ``LC_ALL``,
    ``LC_MESSAGES``, ``LANG``.

    Every language except Chinese is English: ``zh_CN.UTF-8`` and ``zh-Hans`` give ``zh``; ``C``, ``de_DE`` and no value
    give ``en``.
    """
    env = os.environ if environ is None else environ
    requested = [env.get("MK_LANG"), explicit, *(env.get(name) for name in _POSIX)]
    first = next((name.strip() for name in requested if name and name.strip()), "")
    return "zh" if first[:2].lower() == "zh" else "en"


class Catalog:
    """All texts in one language. Missing texts come from the English catalog.

    ``Catalog.load("zh")`` returns the same object each time; the files are read at the first use.
    """

    def __init__(self, language: Language) -> None:
        self.language = language

    @staticmethod
    def load(language: str = "en") -> Catalog:
        """Return the Chinese catalog for ``zh``, and the English one for any other language."""
        return _load("zh" if language == "zh" else "en")

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {id: _entry(id, table) for id, table in read(f"{self.language}.toml").items()}

    @cached_property
    def _formatter(self) -> Formatter:
        return Formatter(chinese if self.language == "zh" else None, separator(self.language))

    @cached_property
    def _words(self) -> dict[str, str]:
        return dict(_flat(read(f"ui_{self.language}.toml")))

    @property
    def _english(self) -> Catalog | None:
        return None if self.language == "en" else _load("en")

    def ids(self) -> list[str]:
        return sorted(self._entries)

    def entry(self, id: str) -> Entry | None:
        """Return the entry of an id, from the English catalog if this one lacks it; None if the id is unknown."""
        found = self._entries.get(id)
        return found if found or not self._english else self._english.entry(id)

    def text(self, id: str, fields: Mapping[str, Any]) -> str:
        """Format a message as one line.

        Never raises: a missing field is shown as its name, an unknown id with its fields.
        """
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
        """Return a text of the command line: ``word("ps.plugin")``, ``word("run.found", count=5)``.

        An unknown key is returned unchanged.
        """
        found = self._words.get(key)
        if found is None:
            return self._english.word(key, **fields) if self._english else key
        return self._formatter.fill(found, fields) if fields else found

    def words(self) -> dict[str, str]:
        """Return all texts of the command line by key."""
        return dict(self._words)


def translate(error: KernelError, catalog: Catalog) -> str:
    """Return the line that is shown for an error: ``MK0103  text``."""
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
        **{key: table.get(key, "") for key in ("what_happened", "why", "kernel_action", "your_action")},
    )


def _flat(table: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Flatten nested tables to dotted keys: ``{"ps": {"pid": "pid"}}`` gives ``[("ps.pid", "pid")]``."""
    pairs: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            pairs.extend(_flat(cast(dict[str, Any], value), f"{above}{key}."))
        else:
            pairs.append((above + key, str(value)))
    return pairs
