"""The operators, functions and methods of Python that are evaluated in constant expressions, reimplemented with
limits."""

from __future__ import annotations

import ast
import base64
import binascii
import codecs
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, TypeAlias

Value: TypeAlias = str | bytes | int | PurePosixPath | list[Any]

# Longest list that is evaluated.
MOST = 1024
_LONGEST = 8192


class Unresolved(Exception):
    """The value is known only at run time."""


def unseen() -> Any:
    raise Unresolved


def bounded(value: Value) -> Value:
    """Return the value if it is not too large. Raises Unresolved for long texts, lists and numbers."""
    if isinstance(value, bool | PurePosixPath):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 64 else unseen()
    return value if len(value) <= (MOST if isinstance(value, list) else _LONGEST) else unseen()


def items(value: Value) -> list[Any]:
    return list(value)[:MOST] if isinstance(value, str | bytes | list) else unseen()


def as_path(value: Value) -> str | PurePosixPath:
    return value if isinstance(value, str | PurePosixPath) else unseen()


# Operators, functions and methods that are followed

# Format specs that do more than insert a text. A width may be a billion.
_WIDTHS = re.compile(r"%(?![sdcx%])|\{(?!\w{0,8}\}|\{)")


def _repeated(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    count, what = (left, right) if isinstance(left, int) else (right, left)
    return what * count if count * len(what) <= _LONGEST else unseen()


def _filled(template: Any, values: Any) -> Any:
    if not isinstance(template, str):
        return template % values if isinstance(template, int) and values else unseen()
    if len(template) > 256 or _WIDTHS.search(template):
        raise Unresolved
    return template % (tuple(values) if isinstance(values, list) else values)


def _formatted(template: Any, *values: Any) -> Any:
    if not isinstance(template, str) or len(template) > 256 or _WIDTHS.search(template):
        raise Unresolved
    return template.format(*values)


def _decoded(data: Any, encoding: Any = "utf-8", *_: Any) -> Any:
    if encoding in ("rot13", "rot_13"):
        return codecs.decode(data, "rot13") if isinstance(data, str) else unseen()
    if encoding not in ("utf-8", "utf8", "ascii", "latin-1", "latin1", "utf-16", "hex"):
        raise Unresolved
    return bytes.fromhex(data.decode()) if encoding == "hex" else data.decode(encoding)


def _encoded(text: Any, *_: Any) -> Any:
    return text.encode() if isinstance(text, str) else unseen()


def _replaced(text: Any, old: Any, new: Any) -> Any:
    return text.replace(old, new) if len(new) <= 64 else unseen()


def _made_bytes(value: Any = b"", *_: Any) -> Any:
    if isinstance(value, int):
        raise Unresolved  # as many zeros
    return value.encode() if isinstance(value, str) else bytes(value)


def _as_text(value: Any = "", *_: Any) -> Any:
    return value if isinstance(value, PurePosixPath) else value.decode() if isinstance(value, bytes) else str(value)


OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.BitXor: operator.xor,
    ast.Mult: _repeated,
    ast.Mod: _filled,
}
FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "builtins.chr": chr,
    "builtins.ord": ord,
    "builtins.str": _as_text,
    "builtins.int": lambda text, base=10: int(text, base) if len(text) <= 64 else unseen(),
    "builtins.bytes": _made_bytes,
    "builtins.bytearray": _made_bytes,
    "builtins.list": items,
    "builtins.tuple": items,
    "builtins.reversed": lambda value: items(value)[::-1],
    "builtins.bytes.fromhex": bytes.fromhex,
    "os.fspath": lambda value: value,
    "os.path.dirname": lambda value: PurePosixPath(value).parent,
    "os.path.abspath": PurePosixPath,
    "os.path.expanduser": lambda value: value,
    "base64.b64decode": base64.b64decode,
    "base64.urlsafe_b64decode": base64.urlsafe_b64decode,
    "base64.b32decode": base64.b32decode,
    "base64.b16decode": base64.b16decode,
    "binascii.unhexlify": binascii.unhexlify,
    "binascii.a2b_base64": binascii.a2b_base64,
    "codecs.decode": _decoded,
}
METHODS: Mapping[str, Callable[..., Value]] = {
    "join": lambda base, parts: base.join(parts),
    "format": _formatted,
    "decode": _decoded,
    "encode": _encoded,
    "replace": _replaced,
    "lower": lambda base: base.lower(),
    "upper": lambda base: base.upper(),
    "swapcase": lambda base: base.swapcase(),
    "title": lambda base: base.title(),
    "strip": lambda base, *which: base.strip(*which),
    "removeprefix": lambda base, what: base.removeprefix(what),
    "removesuffix": lambda base, what: base.removesuffix(what),
    "resolve": lambda base, *_: PurePosixPath(base),
    "absolute": lambda base: PurePosixPath(base),
    "expanduser": lambda base: PurePosixPath(base),
    "as_posix": lambda base: PurePosixPath(base),
    "with_name": lambda base, name: base.with_name(name),
    "with_suffix": lambda base, suffix: base.with_suffix(suffix),
    "joinpath": lambda base, *parts: base.joinpath(*parts),
}
