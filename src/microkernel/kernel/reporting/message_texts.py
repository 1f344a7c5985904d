"""Message texts, for front ends on the public SDK, which may not import the catalogs.

The catalogs are loaded at first use, so a kernel without a console does not pay for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from microkernel.errors import KernelError
from microkernel.kernel.reporting.journal import Journal


def level_of(id: str) -> str:
    """Return the level of a message. Raises KernelError MK0720 for an unknown id."""
    from microkernel.messages import Catalog, unknown

    catalog = Catalog.load()
    if catalog.entry(id) is None:
        raise unknown(id, catalog)
    return catalog.level(id).value


class MessageTexts:
    """Part of the service ``kernel``. Languages are ``en`` and ``zh``; any other is treated as ``en``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def announce(self, id: str, plugin: str = "", fields: dict[str, Any] | None = None) -> bool:
        """Announce a message of the catalogs like one of the kernel's. Raises KernelError MK0720 for an unknown id."""
        self._journal.announce(id, level_of(id), plugin, **(fields or {}))
        return True

    def tell(self, id: str, fields: Mapping[str, Any], language: str = "en") -> str:
        """Return the text of a message or an error, in one line."""
        from microkernel.messages import Catalog

        return Catalog.load(language).text(id, fields)

    def explain(self, id: str, language: str = "en", columns: int = 0) -> str:
        """Return the explanation of a message. Raises KernelError MK0720 for an unknown id."""
        from microkernel.messages import Catalog, render

        catalog = Catalog.load(language)
        return render(id, catalog, Catalog.load("en" if catalog.language == "zh" else "zh"), columns)

    def glossary(self, word: str = "", language: str = "en") -> list[list[str]]:
        """Return the term for a word, or all terms, as [word, word in the other language, meaning].

        Raises KernelError MK0711 for an unknown word.
        """
        from microkernel.messages import Catalog, find, glossary, plain

        found = find(word) if word else None
        if word and found is None:
            raise KernelError("MK0711", word=plain(word))
        terms = [found] if found else glossary()
        other = "en" if Catalog.load(language).language == "zh" else "zh"
        return [[term.word(language), term.word(other), term.means(language)] for term in terms]

    def methods(self) -> dict[str, Callable[..., Any]]:
        """Return the methods of the service, by name."""
        return {"announce": self.announce, "tell": self.tell, "explain": self.explain, "glossary": self.glossary}
