"""Parses a source, and says of it what loading has to know. Runs nothing of it."""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from microkernel.errors import PluginLoadError
from microkernel.kernel.ports import steady
from microkernel.loader.byte_scan import scan_source
from microkernel.loader.files import decode, shown
from microkernel.loader.imports import first_imports

# How often in a row CPython may stumble over another thread's tree.
_STUMBLES = 20

PluginName = Literal["absent", "without base", "fits"]


class SourceFacts(NamedTuple):
    """What loading has to know of a source.

    ``imports``: by top-level module, the line of its first import and the line to write if it is a plugin.
    ``plugin``: how the name ``Plugin`` is bound, and on which ``line``; ``fits`` also where only running it shows.
    """

    imports: Mapping[str, tuple[int, str]]
    plugin: PluginName
    line: int


def facts_of(data: bytes, path: str) -> SourceFacts:
    """Raises PluginLoadError MK0103, MK0104 or MK0141."""
    tree = parse(data, path)
    return SourceFacts(first_imports(tree), *_plugin_name(tree))


def parse(data: bytes, path: str) -> ast.Module:
    """Compile a source, and give its tree. Raises PluginLoadError MK0103, MK0104 or MK0141.

    Warnings are kept quiet: the plugin's own place compiles it again, and its log is where they belong.
    """
    text = decode(data, path, PluginLoadError)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise PluginLoadError("MK0103", path=shown(path), line=line, reason="a null byte")
    scan_source(text, path, PluginLoadError)
    try:
        # What warnings are shown is the whole process's; the lock keeps two of us from restoring each other's state.
        with steady, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _tree(text, path)
            compile(tree, path, "exec", dont_inherit=True)
            return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as cause:
        raise syntax_error(cause, path, text) from None


def _tree(text: str, path: str) -> ast.Module:
    """CPython counts for all threads together how deep it is in the trees it builds, and takes another thread that
    builds one meanwhile (a traceback does, for its carets) for a mistake of its own."""
    for _ in range(_STUMBLES):
        with contextlib.suppress(SystemError):
            return ast.parse(text, path)
    return ast.parse(text, path)


def syntax_error(cause: Exception, path: str, text: str) -> PluginLoadError:
    """``expected ':' in "def total(self)"``: Python's words, and the line they are about."""
    line = (cause.lineno if isinstance(cause, SyntaxError) else 0) or 1
    said = cause.msg if isinstance(cause, SyntaxError) else str(cause) or "too deeply nested"
    lines = text.split("\n")
    there = lines[line - 1].strip() if line <= len(lines) else ""
    quoted = f'in "{there if len(there) <= 60 else there[:59] + "…"}"' if there else "at the end of the file"
    reason = f"{said.removeprefix('invalid syntax').lstrip('. ')} {quoted}".strip()
    return PluginLoadError("MK0103", path=shown(path), line=line, reason=reason)


def _plugin_name(tree: ast.Module) -> tuple[PluginName, int]:
    """A Plugin that is assigned, imported, or comes in by ``import *`` fits: more is seen when it runs."""
    binders = [node for node in _top_level(tree.body) if _binds_plugin(node)]
    if not binders:
        return "absent", 0
    last = binders[-1]
    return ("without base" if isinstance(last, ast.ClassDef) and not last.bases else "fits"), last.lineno


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run in the module's own namespace, in ``if``, ``try`` and ``with`` too."""
    for node in body:
        yield node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(node, name, ()))
            for handler in getattr(node, "handlers", ()):
                yield from _top_level(handler.body)


def _binds_plugin(node: ast.stmt) -> bool:
    match node:
        case ast.ClassDef(name="Plugin") | ast.AnnAssign(target=ast.Name(id="Plugin"), value=ast.expr()):
            return True
        case ast.Assign(targets=targets):
            return any(isinstance(n, ast.Name) and n.id == "Plugin" for target in targets for n in ast.walk(target))
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return any((each.asname or each.name) in ("Plugin", "*") for each in names)
    return False
