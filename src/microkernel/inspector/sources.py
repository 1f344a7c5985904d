"""Parse a source, and extract what loading has to know. Runs nothing of it."""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

# How often in a row CPython may fail because of another thread's tree.
_MAX_PARSE_RETRIES = 20

PluginName = Literal["absent", "without base", "fits"]


class NotParsed(Exception):
    """A text is not valid. ``reason``: in Python's words; ``line``: where, or 1 if no line is known."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason


class NotFinished(Exception):
    """A text took more time or memory than one may; the text says which."""


class SourceFacts(NamedTuple):
    """Facts about a source that loading needs.

    ``imports``: by top-level module, the line of its first import, and the line to write instead if it is a plugin.
    ``plugin``: how the name ``Plugin`` is bound, and on which ``line``; ``fits`` also if only running it can tell.
    """

    imports: Mapping[str, tuple[int, str]]
    plugin: PluginName
    line: int


def facts_of(text: str) -> SourceFacts:
    """Extract the facts. Raises NotParsed."""
    tree = parse(text)
    return SourceFacts(first_imports(tree), *_plugin_name(tree))


def parse(text: str) -> ast.Module:
    """Compile a source, and return its tree. Raises NotParsed.

    Warnings are suppressed: the plugin's runtime compiles it again, and they belong in its log. Warning filters are
    process-wide, so a process with threads calls this on one at a time.
    """
    if "\0" in text:
        raise NotParsed(text.count("\n", 0, text.index("\0")) + 1, "a null byte")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _tree(text)
            compile(tree, "<plugin>", "exec", dont_inherit=True)
            return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as cause:
        raise _not_parsed(cause, text) from None


def _tree(text: str) -> ast.Module:
    """Parse, and retry on a spurious SystemError.

    CPython keeps one recursion count for the trees that all threads build, and takes another thread that builds one
    meanwhile (a traceback does, for its carets) for an internal error.
    """
    for _ in range(_MAX_PARSE_RETRIES):
        with contextlib.suppress(SystemError):
            return ast.parse(text, "<plugin>")
    return ast.parse(text, "<plugin>")


def _not_parsed(cause: Exception, text: str) -> NotParsed:
    """Return ``expected ':' in "def total(self)"``: Python's message, and the line it is about."""
    line = (cause.lineno if isinstance(cause, SyntaxError) else 0) or 1
    message = cause.msg if isinstance(cause, SyntaxError) else str(cause) or "too deeply nested"
    lines = text.split("\n")
    source_line = lines[line - 1].strip() if line <= len(lines) else ""
    quoted = (
        f'in "{source_line if len(source_line) <= 60 else source_line[:59] + "…"}"'
        if source_line
        else "at the end of the file"
    )
    return NotParsed(line, f"{message.removeprefix('invalid syntax').lstrip('. ')} {quoted}".strip())


def _plugin_name(tree: ast.Module) -> tuple[PluginName, int]:
    """Return how ``Plugin`` is bound. One that is assigned or imported, also by ``import *``, fits: running it shows
    more."""
    binders = [node for node in _top_level(tree.body) if _binds_plugin(node)]
    if not binders:
        return "absent", 0
    last = binders[-1]
    return ("without base" if isinstance(last, ast.ClassDef) and not last.bases else "fits"), last.lineno


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run in the module's own namespace, those in ``if``, ``try`` and ``with`` included."""
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


# Imports

_IMPORTERS = ("import_module", "__import__")


class Import(NamedTuple):
    """An import of a module by its full name. ``names``: what is imported from it; ``bound``: the name it gets."""

    module: str
    line: int
    names: tuple[str, ...] = ()
    bound: str = ""

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(tree: ast.AST) -> Iterator[Import]:
    """Yield all imports of a module that run: statements, and ``import_module`` and ``__import__`` with a literal name.

    Relative imports are left out, and those under ``if TYPE_CHECKING``.
    """
    for node in _executed_nodes(tree):
        match node:
            case ast.Import(names=aliases):
                yield from (Import(each.name, node.lineno, (), each.asname or _top(each.name)) for each in aliases)
            case ast.ImportFrom(module=str(module), level=0, names=aliases):
                yield Import(module, node.lineno, tuple(each.name for each in aliases if each.name != "*"))
            case ast.Call(func=function, args=[ast.Constant(value=str(module)), *_]):
                if _last_name(function) in _IMPORTERS and not module.startswith("."):
                    yield Import(module, node.lineno)


def cross_plugin_imports(tree: ast.AST, forbidden: Collection[str]) -> list[tuple[Import, str]]:
    """Return the imports of modules in ``forbidden``, sorted by line, each with the line to write instead."""
    wrong = sorted((each for each in imports(tree) if each.top in forbidden), key=lambda each: each.line)
    called = _first_called(tree) if wrong else {}
    return [(each, _allowed_alternative(each, called)) for each in wrong]


def first_imports(tree: ast.AST) -> dict[str, tuple[int, str]]:
    """Return, by top-level module, the line of its first import and the line to write instead if it is a plugin."""
    called = _first_called(tree)
    found: dict[str, tuple[int, str]] = {}
    for each in sorted(imports(tree), key=lambda each: each.line):
        found.setdefault(each.top, (each.line, _allowed_alternative(each, called)))
    return found


def allowed_alternative(wrong: Import, tree: ast.AST) -> str:
    """Return the line to write: a call of what is imported, or of the first method that is called on the module."""
    return _allowed_alternative(wrong, _first_called(tree))


def _allowed_alternative(wrong: Import, called: Mapping[str, str]) -> str:
    method = wrong.names[0] if wrong.names else called.get(wrong.bound, "<method>")
    return f'self.api.call("{wrong.top}.{method}", ...)'


def _executed_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those for type checkers only. A loop, because generated code may nest deeper than the
    stack allows."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _first_called(tree: ast.AST) -> dict[str, str]:
    """Return, by name, the first method of it that is called: ``total`` for ``billing`` if there is
    ``billing.total()``."""
    called: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called.setdefault(_first_name(node.func), node.func.attr)
    called.pop("", None)  # called on an expression without a name
    return called


def _first_name(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _top(module: str) -> str:
    return module.partition(".")[0]
