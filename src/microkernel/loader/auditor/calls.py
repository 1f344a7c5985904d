"""The permissions that calls need: topics, targets, keys, paths, addresses, variables."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from microkernel.loader.auditor.constants import DATA_DIR
from microkernel.loader.auditor.functions import Unresolved, Value
from microkernel.loader.auditor.names import UNSEEN, Names
from microkernel.loader.auditor.tables import (
    CALLS,
    ONLY_OF_PATHS,
    OPENERS,
    PATH_READS,
    PATH_WRITES,
    PORTS,
    URL_VERBS,
    PermissionNeed,
)

# A permission and its value; ``UNSEEN``, or a pattern with ``*``, if the value is not known or only in part.
Needed = tuple[str, str]

_WRITING = frozenset("wax+")
_OPEN_FLAGS = frozenset({"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"})


def needed(call: ast.Call, known: str, names: Names) -> Iterator[Needed]:
    """Yield the permissions that a call of ``known`` needs. Files below ``api.data_dir`` need none."""
    if known in OPENERS:
        yield from _opened(call, known, names)
    elif known in CALLS:
        for asks in CALLS[known]:
            yield from _asked(call, asks, names)
    elif isinstance(call.func, ast.Attribute):
        yield from _method(call, call.func, names)


def argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    """Return an argument; None if it is not given or hidden by a starred argument before it."""
    for each in call.keywords:
        if keyword and each.arg == keyword:
            return each.value
    if 0 <= position < len(call.args) and not any(isinstance(each, ast.Starred) for each in call.args[: position + 1]):
        return call.args[position]
    return None


def _asked(call: ast.Call, asks: PermissionNeed, names: Names) -> Iterator[Needed]:
    node = argument(call, asks.position, asks.keyword)
    if node is None:
        if call.args or call.keywords or asks.permission not in ("net", "fs.read"):
            yield asks.permission, UNSEEN
        return
    for value in _KINDS[asks.kind](call, asks, node, names):
        yield asks.permission, value


# By the kind of argument


def _pattern(_call: ast.Call, _asks: PermissionNeed, node: ast.expr, names: Names) -> Iterator[str]:
    try:
        yield from map(_as_text, names.constants.choices(node))
    except Unresolved:
        try:
            yield names.constants.pattern(node)
        except Unresolved:
            yield UNSEEN


def _variable(_call: ast.Call, _asks: PermissionNeed, node: ast.expr, names: Names) -> Iterator[str]:
    yield from _or_unseen(node, names, _as_text)


def _path(_call: ast.Call, _asks: PermissionNeed, node: ast.expr, names: Names) -> Iterator[str]:
    yield from paths(node, names)


def _url(_call: ast.Call, _asks: PermissionNeed, node: ast.expr, names: Names) -> Iterator[str]:
    if isinstance(node, ast.Call) and names.resolve(node.func) == "urllib.request.Request":
        return  # that call is visited itself
    try:
        yield from (_address(_as_text(value)) for value in names.constants.choices(node))
    except Unresolved:
        yield _address(_beginning(node, names))


def _host(call: ast.Call, asks: PermissionNeed, node: ast.expr, names: Names) -> Iterator[str]:
    port = argument(call, asks.position + 1, "port")
    try:
        number: Any = names.constants.value(port) if port is not None else asks.port
        host = names.constants.text(node)
    except Unresolved:
        yield UNSEEN
        return
    if ":" not in host and (not isinstance(number, int) or not number):
        host = UNSEEN
    yield host if ":" in host or host == UNSEEN else f"{host}:{number}"


def _pair(_call: ast.Call, _asks: PermissionNeed, node: ast.expr, names: Names) -> Iterator[str]:
    try:
        value = names.constants.value(node)
    except Unresolved:
        yield UNSEEN
        return
    yield ":".join(map(str, value)) if isinstance(value, list) and len(value) == 2 else UNSEEN


_KINDS: Mapping[str, Callable[[ast.Call, PermissionNeed, ast.expr, Names], Iterator[str]]] = {
    "pattern": _pattern,
    "variable": _variable,
    "path": _path,
    "url": _url,
    "host": _host,
    "pair": _pair,
}


def paths(node: ast.expr, names: Names) -> Iterator[str]:
    """Yield the possible paths of an argument, without the plugin's own."""
    yield from (each for each in _or_unseen(node, names, _outside) if each and each != ":memory:")


def _or_unseen(node: ast.expr, names: Names, made: Callable[[Value], str]) -> Iterator[str]:
    try:
        yield from map(made, names.constants.choices(node))
    except Unresolved:
        yield UNSEEN


def _as_text(value: Value) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise Unresolved
    return value


def _outside(value: Value) -> str:
    if isinstance(value, int):
        return ""  # a descriptor; the call that opened it was checked
    path = value if isinstance(value, PurePosixPath) else PurePosixPath(_as_text(value))
    if DATA_DIR in (path, *path.parents):
        if ".." in path.parts:
            raise Unresolved  # the data folder is known only at run time
        return ""
    whole = os.path.normpath(path)
    if whole.startswith(".."):
        raise Unresolved
    return whole


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return UNSEEN
    return f"{parts.hostname}:{port}" if parts.hostname and port else UNSEEN


def _beginning(node: ast.expr, names: Names) -> str:
    """Return the known beginning of a URL, if it contains the whole address: the part after the next slash may vary."""
    parts: list[ast.expr] = node.values if isinstance(node, ast.JoinedStr) else [node]
    while isinstance(parts[0], ast.BinOp) and isinstance(parts[0].op, ast.Add):
        parts = [parts[0].left, *parts[1:]]
    text = ""
    for each in parts:
        try:
            text += names.constants.text(each.value if isinstance(each, ast.FormattedValue) else each)
        except Unresolved:
            break
    return text if text.count("/") >= 3 else ""


# Files, and methods of unknown objects


def _opened(call: ast.Call, known: str, names: Names) -> Iterator[Needed]:
    node = argument(call, 0, "name" if known == "tarfile.open" else "file")
    permissions = _flags(call) if known == "os.open" else _mode(call, OPENERS[known], names)
    for path in paths(node, names) if node is not None else (UNSEEN,):
        yield from ((permission, path) for permission in permissions)


def _mode(call: ast.Call, position: int, names: Names) -> list[str]:
    node = argument(call, position, "mode") if position >= 0 else None
    try:
        modes = [_as_text(value) for value in names.constants.choices(node)] if node is not None else ["r"]
    except Unresolved:
        modes = ["r+"]
    letters = set("".join(modes))
    reads = not letters & set("wax") or "+" in letters
    return ["fs.read"] * reads + ["fs.write"] * bool(letters & _WRITING)


def _flags(call: ast.Call) -> list[str]:
    flags = argument(call, 1, "flags")
    named = {each.attr for each in ast.walk(flags) if isinstance(each, ast.Attribute)} if flags is not None else set()
    return ["fs.write"] if named & _OPEN_FLAGS else ["fs.read"]


def _method(call: ast.Call, function: ast.Attribute, names: Names) -> Iterator[Needed]:
    name = function.attr
    if name in PATH_READS or name in PATH_WRITES or name == "open":
        yield from _on_path(call, function, names)
    elif name in ("connect", "connect_ex", "sendto") and call.args and isinstance(call.args[-1], ast.Tuple):
        yield from (("net", value) for value in _pair(call, PermissionNeed("net", "pair"), call.args[-1], names))
    elif name in URL_VERBS:
        yield from (("net", value) for node in call.args[:2] for value in _literal_url(node, names))


def _on_path(call: ast.Call, function: ast.Attribute, names: Names) -> Iterator[Needed]:
    try:
        base: Any = names.constants.value(function.value)
    except Unresolved:
        base = None
    if isinstance(base, PurePosixPath) and (path := _outside(base)):
        found = [path]
    else:
        found = [UNSEEN] if base is None and function.attr in ONLY_OF_PATHS else []
    permissions = _mode(call, 0, names) if function.attr == "open" else [_of_method(function.attr)]
    yield from ((permission, path) for path in found for permission in permissions)


def _of_method(name: str) -> str:
    return "fs.write" if name in PATH_WRITES else "fs.read"


def _literal_url(node: ast.expr, names: Names) -> Iterator[str]:
    """Yield the address in ``client.get(...)`` only if it is a URL, because ``client`` may be a dict."""
    beginning = _beginning(node, names)
    try:
        texts = [str(value) for value in names.constants.choices(node)]
    except Unresolved:
        texts = [beginning]
    yield from (_address(text) for text in texts if text.partition("://")[0] in PORTS and "://" in text)
