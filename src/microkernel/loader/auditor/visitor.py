"""Visits the syntax tree of one source and yields findings and uses. Runs nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from microkernel.inspector.sources import Import, allowed_alternative
from microkernel.loader.auditor.calls import argument, needed
from microkernel.loader.auditor.findings import Finding, Place, Seen, Use
from microkernel.loader.auditor.functions import Unresolved
from microkernel.loader.auditor.names import UNSEEN, Names, walk
from microkernel.loader.auditor.tables import GETTERS, IMPORTERS, INTERNALS, LOOKALIKES, MENTIONS, USED
from microkernel.loader.auditor.texts import is_secret, masked

MOST_NODES = 400_000
# Findings of one file that are reported individually. The rest is reported as more of the same.
_LOUDEST = 1000


def visit(tree: ast.AST, file: str, name: str = "", forbidden: Collection[str] = ()) -> Iterator[Seen]:
    """Inspect a module. ``name`` is the plugin's, for topics made of it. ``forbidden``: plugins that must not be
    imported, checked here for assembled names; plain imports are checked elsewhere."""
    nodes = list(walk(tree, MOST_NODES))
    visitor = _Visitor(Names(nodes, file, name), file, forbidden)
    count = 0
    for node in nodes:
        for seen in visitor.visit(node):
            count += 1
            if count > _LOUDEST:
                yield visitor.gave_up(f"more than {_LOUDEST} findings in one file")
                return
            yield seen
    yield from visitor.end(len(nodes))


class _Visitor:
    def __init__(self, names: Names, file: str, forbidden: Collection[str]) -> None:
        self._names = names
        self._file = file
        self._forbidden = forbidden
        # Nodes that are parts of a name that has been reported.
        self._reported: set[int] = set()
        self._services: dict[str, Place] = {}
        self._called: set[str] = set()

    def visit(self, node: ast.AST) -> Iterator[Seen]:
        for how in _VISITS.get(type(node), ()):
            yield from how(self, node)

    def end(self, nodes: int) -> Iterator[Seen]:
        for service, place in self._services.items():
            if service not in self._called:
                yield Use(place, "call", f"{service}.*")
        if nodes >= MOST_NODES:
            yield self.gave_up(f"more than {MOST_NODES} nodes in one file")
        elif self._names.budget.is_exhausted:
            yield self.gave_up("its names take too long to follow")

    def gave_up(self, reason: str) -> Finding:
        return Finding(Place(self._file), "MK0804", {"reason": reason})

    def _place(self, node: Any) -> Place:
        return Place(self._file, getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1)

    def _finding(self, node: ast.AST, id: str, **fields: Any) -> Finding:
        return Finding(self._place(node), id, fields)

    # Names

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Seen]:
        module = "" if isinstance(node, ast.Import) else node.module or ""
        if isinstance(node, ast.ImportFrom) and node.level:
            return
        for each in node.names:
            full = f"{module}.{each.name}" if module else each.name
            id = finding_for(full.removesuffix(".*"))
            if id:
                yield Finding(self._place(node), id, {"what": full}, is_import=True)

    def _expression(self, node: ast.Name | ast.Attribute | ast.Subscript | ast.Call) -> Iterator[Seen]:
        if id(node) in self._reported:
            self._pass_on(node)
            return
        known = self._names.resolve(node)
        if known.startswith("@service."):
            yield from self._service(node, known)
        elif known.startswith("os.environ"):
            yield from self._environment(node, known)
        elif (found := finding_for(known)) is not None:
            self._pass_on(node)
            if found:
                yield self._finding(node, found, what=known.removeprefix("builtins."))

    def _pass_on(self, node: ast.AST) -> None:
        """Mark the rest of a reported name: ``os`` of ``os.system``."""
        inner = getattr(node, "func", None) or getattr(node, "value", None)
        if inner is not None:
            self._reported.add(id(inner))

    def _service(self, node: ast.expr, known: str) -> Iterator[Seen]:
        service, _, method = known.removeprefix("@service.").partition(".")
        if service == UNSEEN:
            return
        self._services.setdefault(service, self._place(node))
        if method:
            self._pass_on(node)
            self._called.add(service)
            yield Use(self._place(node), "call", f"{service}.{method}")

    def _environment(self, node: ast.expr, known: str) -> Iterator[Seen]:
        """Report the use of the whole environment; single variables are reported where they are read."""
        if not isinstance(node, ast.Call):
            self._pass_on(node)
            yield self._finding(node, "MK0834", what=known, permission="env")

    def _attribute(self, node: ast.Attribute) -> Iterator[Seen]:
        if node.attr in INTERNALS and not _is_super(node.value):
            yield self._finding(node, "MK0813", what=node.attr)

    def _subscript(self, node: ast.Subscript) -> Iterator[Seen]:
        if self._names.resolve(node.value) in ("os.environ", "os.environb"):
            self._reported.add(id(node.value))
            yield from self._variables(node)

    def _variables(self, node: ast.Subscript) -> Iterator[Seen]:
        try:
            values = [str(value) for value in self._names.constants.choices(node.slice)]
        except Unresolved:
            values = [UNSEEN]
        for value in values:
            yield from self._use(node, "os.environ", "env", value)

    # Calls

    def _call(self, node: ast.Call) -> Iterator[Seen]:
        known = self._names.resolve(node.func)
        yield from self._dynamic(node, known)
        for permission, value in needed(node, known, self._names):
            self._reported.update([id(node.func)] if known.startswith("os.environ") else [])
            yield from self._use(node, known or _said(node.func), permission, value)
        if known == "@api.service" and self._names.resolve(node) == f"@service.{UNSEEN}":
            yield self._finding(node, "MK0834", what="api.service", permission="call")

    def _use(self, node: ast.AST, what: str, permission: str, value: str) -> Iterator[Seen]:
        what = what.replace("@api", "api").removeprefix("builtins.")
        if value == UNSEEN or "\0" in value:
            yield self._finding(node, "MK0834", what=what, permission=permission)
            return
        yield Use(self._place(node), permission, value)
        if permission in USED:
            yield self._finding(node, USED[permission], what=what, value=value)
        elif permission == "net" and not finding_for(what):
            yield self._finding(node, "MK0830", what=f"{what} {value}")
        elif "*" in value and permission not in ("on", "net") and what != "api.watch_data":
            yield self._finding(node, "MK0836", what=what, permission=permission, pattern=value)

    def _dynamic(self, node: ast.Call, known: str) -> Iterator[Seen]:
        name = argument(node, 0 if known in IMPORTERS else 1, "name")
        if name is None or not (known in IMPORTERS or known in GETTERS):
            return
        if isinstance(name, ast.Constant):
            if name.value in INTERNALS:
                yield self._finding(node, "MK0813", what=name.value)
            return
        try:
            values = self._names.constants.choices(name)
        except Unresolved:
            if known in IMPORTERS or self._is_module(node.args[0]):
                yield self._finding(node, "MK0812", what=known.removeprefix("builtins."))
            return
        if not isinstance(name, ast.Name | ast.IfExp):  # a name for a constant hides nothing
            yield self._finding(node, "MK0811", what=self._names.resolve(node) or str(values[0]))
        for module in map(str, values if known in IMPORTERS else ()):
            if (wrong := Import(module, node.lineno)).top in self._forbidden:
                yield self._finding(node, "MK0803", other=wrong.top, instead=allowed_alternative(wrong, node))

    def _is_module(self, node: ast.expr) -> bool:
        known = self._names.resolve(node)
        return bool(known) and not known.startswith("@")

    # Deceptive names and texts

    def _secret(self, node: ast.Assign | ast.AnnAssign | ast.keyword | ast.Dict) -> Iterator[Seen]:
        for name, value in _named_texts(node):
            if is_secret(name, value.value):
                yield self._finding(value, "MK0808", what=name, display_path=masked(value.value))

    def _identifier(self, node: ast.AST) -> Iterator[Seen]:
        for name in _identifiers(node):
            if name.isascii():
                continue
            looks = name.translate(LOOKALIKES)
            deceives = looks.isascii() and (len(name) > 2 or any(char.isascii() for char in name))
            if deceives:
                yield self._finding(node, "MK0807", name=name, looks=looks)


_Visit = Callable[[_Visitor, Any], Iterable[Seen]]
# In this order, because a call covers its parts, which then need no finding.
_VISITS: Mapping[type[ast.AST], tuple[_Visit, ...]] = {
    ast.Import: (_Visitor._import,),
    ast.ImportFrom: (_Visitor._import,),
    ast.Call: (_Visitor._call, _Visitor._expression),
    ast.Subscript: (_Visitor._subscript, _Visitor._expression),
    ast.Attribute: (_Visitor._expression, _Visitor._attribute, _Visitor._identifier),
    ast.Name: (_Visitor._expression, _Visitor._identifier),
    ast.Assign: (_Visitor._secret,),
    ast.AnnAssign: (_Visitor._secret,),
    ast.Dict: (_Visitor._secret,),
    ast.keyword: (_Visitor._secret, _Visitor._identifier),
    ast.arg: (_Visitor._identifier,),
    ast.alias: (_Visitor._identifier,),
    ast.FunctionDef: (_Visitor._identifier,),
    ast.AsyncFunctionDef: (_Visitor._identifier,),
    ast.ClassDef: (_Visitor._identifier,),
}


def finding_for(name: str) -> str | None:
    """Return the finding for a name, or for its nearest parent; "" if it is known to be harmless, None if it is
    unknown."""
    while name:
        if name in MENTIONS:
            return MENTIONS[name]
        name = name.rpartition(".")[0]
    return None


_IDENTIFIERS: Mapping[str, str] = {"Name": "id", "Attribute": "attr", "keyword": "arg", "arg": "arg", "alias": "asname"}


def _identifiers(node: ast.AST) -> Iterator[str]:
    name = getattr(node, _IDENTIFIERS.get(type(node).__name__, "name"), None)
    if isinstance(name, str):
        yield name


def _named_texts(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield pairs of a name and the constant text assigned to it."""
    match node:
        case ast.Assign(targets=targets, value=ast.Constant(value=str()) as value):
            yield from ((_last(target), value) for target in targets)
        case ast.AnnAssign(target=target, value=ast.Constant(value=str()) as value):
            yield _last(target), value
        case ast.keyword(arg=str(name), value=ast.Constant(value=str()) as value):
            yield name, value
        case ast.Dict(keys=keys, values=values):
            for key, each in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(each, ast.Constant) and isinstance(each.value, str):
                    yield str(key.value), each


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
    return ""


def _said(node: ast.expr) -> str:
    return f"….{node.attr}" if isinstance(node, ast.Attribute) else "…"


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
