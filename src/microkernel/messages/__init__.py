"""Texts for people: the six message levels, the English and Chinese catalogs, the explanations and the glossary.

This package imports only the standard library and ``microkernel.errors``, and prints nothing. A missing text never
raises: the English text is used instead, then the id with its fields.
"""

from microkernel.messages.catalog import Catalog, Entry, Language, language, translate
from microkernel.messages.explain import explain, message_id, nearest, render, unknown
from microkernel.messages.formatting import Formatter, plain
from microkernel.messages.glossary import Term, find, glossary, state_word
from microkernel.messages.levels import MessageLevel

__all__ = [
    "Catalog",
    "Entry",
    "Formatter",
    "Language",
    "MessageLevel",
    "Term",
    "explain",
    "find",
    "glossary",
    "language",
    "message_id",
    "nearest",
    "plain",
    "render",
    "state_word",
    "translate",
    "unknown",
]
