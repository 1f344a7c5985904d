"""Output of the command line in the reader's language: tables on a terminal and without one, or JSON."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich.console import RenderableType

import microkernel
from microkernel.cli import streams
from microkernel.errors import KernelError
from microkernel.messages import Catalog, glossary, language
from microkernel.plugins.console import view
from microkernel.plugins.console.as_json import json_text
from microkernel.plugins.console.feed import Feed
from microkernel.plugins.console.translator import Translator, plain


def words_of(catalog: Catalog) -> dict[str, str]:
    """Return all texts that a front end needs: those of the command line and the names of the states."""
    states = {f"state.{term.en}": term.word(catalog.language) for term in glossary() if term.state}
    return {**catalog.words(), **states}


class Output:
    """Prints results to standard output and errors to standard error."""

    def __init__(self, wished: str = "", as_json: bool = False) -> None:
        self.catalog = Catalog.load(language(wished))
        self.translator = Translator(self.catalog.language, words_of(self.catalog), self.catalog.text)
        self.feed = Feed(self.translator, microkernel.__version__)
        self.as_json = as_json

    def show(self, what: Iterable[RenderableType], data: Any = None) -> None:
        """Print ``what`` for people, or ``data`` as one line of JSON."""
        if self.as_json:
            self.json(data)
        else:
            self.write(what, sys.stdout)

    def json(self, data: Any) -> None:
        streams.write(json_text(data, ascii_only=not streams.is_unicode(sys.stdout)) + "\n", sys.stdout)

    def write(self, what: Iterable[RenderableType], stream: TextIO) -> None:
        terminal = stream.isatty()
        width = shutil.get_terminal_size().columns if terminal else view.ENDLESS
        streams.write(view.render(what, width, terminal and view.is_colored(os.environ)), stream)

    def error(self, error: KernelError) -> None:
        """Print the id and the cause of an error, and the plugin's own traceback lines if the plugin raised it."""
        if self.as_json:
            self.json({"error": {"id": error.id, "text": error.text, "fields": _plain(error.fields)}})
            return
        text = view.line("error", error.id, self.translator.error(error))
        trace = str(error.fields.get("remote_traceback") or error.fields.get("traceback") or "")
        self.write([text, *view.their_lines(trace)], sys.stderr)

    def notice(self, text: str, level: str = "notice") -> None:
        """Print a remark that is not a result."""
        if not self.as_json:
            self.write([view.line(level, plain(text))], sys.stderr)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if isinstance(value, str | int | float | list | None)}
