"""`mk explain` and `mk glossary`: pages about messages and terms, from the catalogs."""

from __future__ import annotations

import os
import sys

from rich.text import Text

from microkernel.cli.output import Output
from microkernel.errors import KernelError
from microkernel.messages import find, glossary, message_id, plain, render
from microkernel.messages.catalog import Catalog
from microkernel.plugins.console import view


def explain(id: str, output: Output) -> None:
    other = Catalog.load(_other_language(output))
    columns = os.get_terminal_size().columns if sys.stdout.isatty() else 0
    text = render(id, output.catalog, other, columns)
    entry = output.catalog.entry(message_id(id))
    names = ("id", "level", "title", "text", "what_happened", "why", "kernel_action", "your_action")
    output.show([Text(text)], {name: str(getattr(entry, name)) for name in names})


def show_glossary(word: str, output: Output) -> None:
    """Print one term, or all if ``word`` is empty. Raises MK0711 for an unknown word."""
    found = find(word) if word else None
    if word and found is None:
        raise KernelError("MK0711", word=plain(word))
    mine, other = output.catalog.language, _other_language(output)
    terms = [[term.word(mine), term.word(other), term.means(mine)] for term in ([found] if found else glossary())]
    output.show(view.terms(terms, output.translator), terms)


def _other_language(output: Output) -> str:
    return "en" if output.catalog.language == "zh" else "zh"
