"""Resolves names in a source: from ``system`` back to ``os.system``, however it was imported.

Scopes and the order of lines are ignored: a meaning that a name has anywhere in the file, it may have everywhere.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator

from microkernel.loader.auditor.constants import Budget, Constants
from microkernel.loader.auditor.functions import Unresolved
from microkernel.loader.auditor.tables import ALIASES, GETTERS, IMPORTERS, PASSED_THROUGH

_DEEPEST = 64
_BUILTINS = frozenset([*dir(builtins), "__builtins__"])
_API = frozenset({"api", "_api"})
_STARS = {"microkernel": ("on", "expose", "every"), "os": ("system", "popen", "environ", "getenv", "kill", "_exit")}
# Stands in a name for a part that is known only at run time.
UNSEEN = "?"


class Names:
    """The names of one module."""

    def __init__(self, nodes: list[ast.AST], file: str, name: str) -> None:
        self._modules: dict[str, str] = {}
        self._bound: defaultdict[str, list[ast.expr | None]] = defaultdict(list)
        self._own: set[str] = set()
        self._known: dict[int, str] = {}
        self._through: dict[str, str] = {}
        self._asking: set[str] = set()
        self.budget = Budget()
        self.constants = Constants(self, file, name)
        for node in nodes:
            self._bind(node)

    def bound(self, name: str) -> list[ast.expr | None]:
        """Return the expression that a name, or ``self.name``, is bound to; None if it cannot be followed."""
        return self._bound.get(name, [])

    def resolve(self, node: ast.expr) -> str:
        """Return the dotted name behind an expression: ``os.system``, ``@api.emit``; an empty string if there is
        none."""
        if id(node) not in self._known:
            try:
                with self.budget:
                    found = self._resolve(node, _DEEPEST)
            except RecursionError:
                found = ""
            if self._asking:
                return found
            self._known[id(node)] = found
        return self._known[id(node)]

    # Binding

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.Import(names=aliases):
                for each in aliases:
                    self._modules[each.asname or _top(each.name)] = each.name if each.asname else _top(each.name)
            case ast.ImportFrom(module=module, names=aliases, level=0):
                self._bind_from(module or "", aliases)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind_target(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                self._bind_target(target, value)
            case ast.For(target=target, iter=items) | ast.AsyncFor(target=target, iter=items):
                self._bind_loop(target, items)
            case _:
                self._bind_unseen(node)

    def _bind_from(self, module: str, aliases: list[ast.alias]) -> None:
        for each in aliases:
            if each.name == "*":
                self._modules.update({name: f"{module}.{name}" for name in _STARS.get(module, ())})
            else:
                self._modules[each.asname or each.name] = f"{module}.{each.name}"

    def _bind_unseen(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                self._bound[name].append(None)
                self._own.update([name] if node.col_offset == 0 else [])
            case ast.arg(arg=name, annotation=annotation):
                self._bound[name].append(None)
                if annotation is not None and _text(annotation).rpartition(".")[2].strip("\"'") == "PluginAPI":
                    self._modules[name] = "@api"
            case ast.AugAssign(target=target):
                self._bind_target(target, None)
            case ast.withitem(optional_vars=ast.expr() as target) | ast.comprehension(target=target):
                self._bind_target(target, None)
            case ast.ExceptHandler(name=str(name)):
                self._bound[name].append(None)

    def _bind_target(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            values: list[ast.expr | None] = [None] * len(target.elts)
            if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
                values = list(value.elts)
            for each, part in zip(target.elts, values, strict=True):
                if not isinstance(each, ast.Tuple | ast.List):
                    self._bind_target(each, part)
        elif key := _text(target):
            self._bound[key].append(value)

    def _bind_loop(self, target: ast.expr, items: ast.expr) -> None:
        values = items.elts if isinstance(items, ast.Tuple | ast.List | ast.Set) else [None]
        for value in values:
            self._bind_target(target, value)

    # Resolving

    def _resolve(self, node: ast.expr, depth: int) -> str:
        if depth <= 0 or not self.budget.spend():
            return ""
        match node:
            case ast.Name(id=name):
                return self._name(name, depth)
            case ast.Attribute(value=base, attr=attr):
                return self._attribute(base, attr, depth)
            case ast.Call(func=function, args=[first, *rest]):
                return self._call(self._resolve(function, depth - 1), first, rest, depth)
            case ast.Subscript(value=base, slice=key):
                return self._subscript(base, key, depth)
            case ast.NamedExpr(value=value) | ast.Await(value=value):
                return self._resolve(value, depth - 1)
        return ""

    def _name(self, name: str, depth: int) -> str:
        if name in _API:
            return "@api"
        if name in self._modules:
            return canonical(self._modules[name])
        found = self._through_bindings(name, depth)
        if not found and name in _BUILTINS and name not in self._own:
            return canonical(f"builtins.{name}")
        return found

    def _attribute(self, base: ast.expr, attr: str, depth: int) -> str:
        if attr in _API:
            return "@api"
        if isinstance(base, ast.Name) and (found := self._through_bindings(f"{base.id}.{attr}", depth)):
            return found
        above = self._resolve(base, depth - 1)
        return canonical(f"{above}.{attr}") if above else ""

    def _through_bindings(self, key: str, depth: int) -> str:
        if key not in self._bound or key in self._asking:
            return ""
        if key in self._through:
            return self._through[key]
        self._asking.add(key)
        try:
            values = (value for value in self._bound[key][:_DEEPEST] if isinstance(value, _FOLLOWED))
            found = next(filter(None, (self._resolve(value, depth - 8) for value in values)), "")
        finally:
            self._asking.discard(key)
        if not self._asking:  # incomplete within a cycle of names
            self._through[key] = found
        return found

    def _call(self, function: str, first: ast.expr, rest: list[ast.expr], depth: int) -> str:
        if function in IMPORTERS:
            module = self._said(first)
            return canonical(_top(module) if function == "builtins.__import__" and not rest else module)
        if function in GETTERS and rest and (above := self._resolve(first, depth - 1)):
            return canonical(f"{above}.{self._said(rest[0])}")
        if function == "@api.service":
            return f"@service.{self._said(first)}"
        return ""

    def _subscript(self, base: ast.expr, key: ast.expr, depth: int) -> str:
        """Resolve ``sys.modules["os"]``, ``vars(os)["system"]``, ``os.__dict__["system"]``, ``globals()["exec"]``."""
        match base:
            case ast.Attribute(value=holder, attr="__dict__") | ast.Call(func=ast.Name(id="vars"), args=[holder]):
                above = self._resolve(holder, depth - 1)
                return canonical(f"{above}.{self._said(key)}") if above else ""
            case ast.Call(func=ast.Name(id="globals" | "locals"), args=[]):
                return self._name(self._said(key), depth - 1)
        above = self._resolve(base, depth - 1)
        if above == "sys.modules":
            return canonical(self._said(key))
        return f"builtins.{self._said(key)}" if above == "builtins" else ""

    def _said(self, node: ast.expr) -> str:
        try:
            return self.constants.text(node)[:200]
        except Unresolved:
            return UNSEEN


_FOLLOWED = (ast.Name, ast.Attribute, ast.Call, ast.Subscript)


def canonical(name: str) -> str:
    """Return the usual name: ``os.system`` for ``posix.system`` and ``shutil.os.system``."""
    parts = name.split(".")
    for number in range(len(parts) - 1, 0, -1):
        if parts[number] in PASSED_THROUGH and parts[number] != parts[0] and not parts[0].startswith("@"):
            parts = parts[number:]
            break
    if parts[:2] == ["builtins", "__builtins__"]:
        parts = parts[1:]
    parts[0] = {**ALIASES, "__builtins__": "builtins"}.get(parts[0], parts[0])
    return ".".join(parts)


def walk(tree: ast.AST, limit: int) -> Iterator[ast.AST]:
    """Yield up to ``limit`` nodes, each before its children, in source order. A loop, because sources may nest
    deeper than Python's recursion limit."""
    waiting, count = [tree], 0
    while waiting and count < limit:
        node = waiting.pop()
        count += 1
        yield node
        waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _text(node: ast.expr) -> str:
    """Return the text of ``x`` or ``self.x``, under which a binding is stored and looked up."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=base), attr=attr):
            return f"{base}.{attr}"
        case ast.Constant(value=str(name)):
            return name
    return ""


def _top(module: str) -> str:
    return module.partition(".")[0]
