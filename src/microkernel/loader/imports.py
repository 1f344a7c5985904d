"""Imports that one plugin makes of another. They are refused, with the line to write instead."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import NamedTuple

from microkernel.errors import PluginLoadError

_IMPORTERS = ("import_module", "__import__")


class Import(NamedTuple):
    """One module that is imported by its full name; ``names``: what is taken from it; ``bound``: what it is called."""

    module: str
    line: int
    names: tuple[str, ...] = ()
    bound: str = ""

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(tree: ast.AST) -> Iterator[Import]:
    """All imports of a module that run: statements, and ``import_module`` and ``__import__`` of a literal name.

    Not relative ones, and not those under ``if TYPE_CHECKING``.
    """
    for node in _running(tree):
        match node:
            case ast.Import(names=aliases):
                yield from (Import(each.name, node.lineno, (), each.asname or _top(each.name)) for each in aliases)
            case ast.ImportFrom(module=str(module), level=0, names=aliases):
                yield Import(module, node.lineno, tuple(each.name for each in aliases if each.name != "*"))
            case ast.Call(func=function, args=[ast.Constant(value=str(module)), *_]):
                if _last_name(function) in _IMPORTERS and not module.startswith("."):
                    yield Import(module, node.lineno)


def crossings(tree: ast.AST, forbidden: Collection[str]) -> list[tuple[Import, str]]:
    """Imports of modules among ``forbidden``, by line, each with the line to write instead."""
    wrong = sorted((each for each in imports(tree) if each.top in forbidden), key=lambda each: each.line)
    called = _first_called(tree) if wrong else {}
    return [(each, _instead(each, called)) for each in wrong]


def first_imports(tree: ast.AST) -> dict[str, tuple[int, str]]:
    """By top-level module, the line of its first import and the line to write instead if it is a plugin."""
    called = _first_called(tree)
    found: dict[str, tuple[int, str]] = {}
    for each in sorted(imports(tree), key=lambda each: each.line):
        found.setdefault(each.top, (each.line, _instead(each, called)))
    return found


def check_imports(found: Mapping[str, tuple[int, str]], path: str, forbidden: Collection[str]) -> None:
    """Raises PluginLoadError MK0118 for the first import, by line, of a module among ``forbidden``."""
    wrong = sorted((line, module, instead) for module, (line, instead) in found.items() if module in forbidden)
    for line, module, instead in wrong:
        raise PluginLoadError("MK0118", path=path, line=line, other=module, instead=instead)


def instead(wrong: Import, tree: ast.AST) -> str:
    """The line to write: a call of what is imported, or of the first thing that is called on the module."""
    return _instead(wrong, _first_called(tree))


def _instead(wrong: Import, called: Mapping[str, str]) -> str:
    method = wrong.names[0] if wrong.names else called.get(wrong.bound, "<method>")
    return f'self.api.call("{wrong.top}.{method}", ...)'


def is_installed(name: str, homes: Collection[str]) -> bool:
    """Whether a top-level module can be imported, other than by a plugin's folder happening to be on ``sys.path``.

    ``homes``: the folders that plugins lie in.
    """
    if name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return True
    try:
        spec = find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and os.path.dirname(_place(spec)) not in homes


def _place(spec: ModuleSpec) -> str:
    """The file or the folder of a top-level module."""
    folders = spec.submodule_search_locations
    return os.path.abspath(next(iter(folders), "") if folders else spec.origin or "")


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but what is for type checkers only. A loop, since generated code nests deeper than we may."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _first_called(tree: ast.AST) -> dict[str, str]:
    """By name, the first attribute of it that is called: ``total`` for ``billing`` where ``billing.total()`` stands."""
    called: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called.setdefault(_first_name(node.func), node.func.attr)
    called.pop("", None)  # called on something that has no name
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
