"""What people read: the six message levels, the English and the Chinese catalog, the explanations and the glossary.

Imports the standard library and ``microkernel.errors`` only. Nothing here prints, and nothing here raises for a text
that is missing: it falls back to English, then to the id and its fields.
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
