"""Which modules of the standard library a guest carries: what is not imported while it is built is not in it.

They bring what they import themselves. ``docs/wasm.md`` lists them for plugin authors.
"""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "__future__", "abc", "argparse", "array", "ast", "asyncio", "base64", "binascii", "bisect", "calendar", "cmath",
    "codecs", "collections", "collections.abc", "colorsys", "concurrent.futures", "concurrent.futures.thread",
    "configparser", "contextlib", "contextvars", "copy", "copyreg", "csv", "dataclasses", "datetime", "decimal",
    "difflib", "email", "enum", "errno", "fnmatch", "fractions", "functools", "gc", "getpass", "gettext", "glob",
    "graphlib", "gzip", "hashlib", "heapq", "hmac", "html", "html.entities", "html.parser", "http", "http.client",
    "http.cookiejar", "http.cookies", "importlib", "importlib.abc", "importlib.machinery", "importlib.metadata",
    "importlib.resources", "importlib.resources.readers", "importlib.util", "inspect", "io", "ipaddress", "itertools",
    "json", "keyword", "linecache", "locale", "logging", "logging.handlers", "math", "mimetypes", "numbers",
    "operator", "optparse", "os", "pathlib", "pickle", "pickletools", "platform", "plistlib", "posixpath", "pprint",
    "queue", "quopri", "random", "re", "reprlib", "sched", "secrets", "selectors", "shlex", "shutil", "signal",
    "socket", "stat", "statistics", "string", "stringprep", "_strptime", "struct", "symtable", "sys", "tempfile",
    "textwrap", "threading", "time", "timeit", "token", "tokenize", "tomllib", "traceback", "types", "typing",
    "unicodedata", "urllib.error", "urllib.parse", "urllib.request", "uuid", "warnings", "weakref",
    "xml.etree.ElementTree", "xml.sax.saxutils", "zipfile", "zipimport", "zlib", "zoneinfo",
    "encodings.ascii", "encodings.latin_1", "encodings.utf_8", "encodings.utf_8_sig", "encodings.utf_16",
    "encodings.utf_16_le", "encodings.utf_16_be", "encodings.utf_32", "encodings.cp1252", "encodings.idna",
    "encodings.punycode", "encodings.unicode_escape", "encodings.raw_unicode_escape", "encodings.hex_codec",
    "encodings.base64_codec", "encodings.gb18030", "encodings.gbk", "encodings.cp437", "encodings.cp1250",
    "encodings.cp1251", "encodings.iso8859_2", "encodings.iso8859_15", "encodings.big5", "encodings.shift_jis",
    "encodings.euc_jp", "encodings.euc_kr", "encodings.utf_7",
)  # fmt: skip


def carry() -> None:
    """Import them, so that they are in the guest. Raises ImportError: a list that is wrong is no guest."""
    for name in MODULES:
        import_module(name)
