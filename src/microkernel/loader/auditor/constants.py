"""Evaluates constant expressions without running the source.

Nothing of the source is called. The few functions that are followed are reimplemented in ``functions.py``.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol, cast

from microkernel.loader.auditor.functions import (
    FUNCTIONS,
    METHODS,
    MOST,
    OPERATORS,
    Unresolved,
    Value,
    as_path,
    bounded,
    items,
    unseen,
)
from microkernel.loader.auditor.tables import PATHS

# Stands for ``api.data_dir``, which is known only at run time and belongs to the plugin.
DATA_DIR = PurePosixPath("\0data")
_STEPS = 2000
_ALL_STEPS = 4_000_000


class Budget:
    """Limits the steps for one question and for one source, because a hostile source can make both endless.

    ``with budget`` starts a question; a nested question shares the budget of the outer one.
    """

    def __init__(self) -> None:
        self._asked = 0
        self._left = 0
        self._spent = 0

    def __enter__(self) -> None:
        self._asked += 1
        if self._asked == 1:
            self._left = _STEPS

    def __exit__(self, *_: object) -> None:
        self._asked -= 1

    @property
    def is_exhausted(self) -> bool:
        return self._spent >= _ALL_STEPS

    def spend(self) -> bool:
        """Take one step. Returns whether there was one left."""
        self._left -= 1
        self._spent += 1
        return self._left >= 0 and self._spent < _ALL_STEPS


class Scope(Protocol):
    """The meaning of names in a source."""

    budget: Budget

    def resolve(self, node: ast.expr) -> str: ...

    def bound(self, name: str) -> list[ast.expr | None]: ...


class Constants:
    """Evaluates expressions of one source. ``file`` is the value of ``__file__``, ``name`` that of ``api.name``."""

    def __init__(self, scope: Scope, file: str, name: str) -> None:
        self._scope = scope
        self._file = _absolute(file)
        self._name = name
        self._local: dict[str, Value] = {}

    def value(self, node: ast.expr) -> Value:
        """Return the value of an expression. Raises Unresolved."""
        with self._scope.budget:
            return self.fold(node)

    def text(self, node: ast.expr) -> str:
        """Return the text of an expression. Raises Unresolved, also for a value that is not text."""
        value = self.value(node)
        if not isinstance(value, str | PurePosixPath):
            raise Unresolved
        return str(value)

    def choices(self, node: ast.expr) -> list[Value]:
        """Return all possible values: both of ``a if b else c``, all of a loop variable. Raises Unresolved if one is
        not known."""
        if isinstance(node, ast.IfExp):
            return [self.value(node.body), self.value(node.orelse)]
        if isinstance(node, ast.Name) and node.id not in self._local:
            found = self._scope.bound(node.id)[:MOST]
            if found:
                return [self.value(each) if each is not None else unseen() for each in found]
        return [self.value(node)]

    def pattern(self, node: ast.expr) -> str:
        """Return a topic that is known in part, with ``*`` for unknown words. Raises Unresolved if an unknown part
        is not a whole word."""
        with self._scope.budget:
            pieces = list(self._pieces(node))
        if all(piece is None for piece in pieces):
            raise Unresolved
        text = "".join("\0" if piece is None else piece for piece in pieces)
        if any("\0" in word and word != "\0" for word in text.split(".")):
            raise Unresolved
        return text.replace("\0", "*")

    def fold(self, node: ast.expr) -> Value:
        """Evaluate an expression. Raises Unresolved."""
        how = _FOLDS.get(type(node))
        if how is None or not self._scope.budget.spend():
            raise Unresolved
        try:
            return bounded(how(self, node))
        except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError):
            raise Unresolved from None

    # By the kind of expression

    def _constant(self, node: ast.Constant) -> Value:
        if not isinstance(node.value, str | bytes | int):
            raise Unresolved
        return node.value

    def _named(self, node: ast.Name) -> Value:
        if node.id in self._local:
            return self._local[node.id]
        if node.id == "__file__":
            return self._file
        found = self._scope.bound(node.id)
        if len(found) != 1 or found[0] is None:
            raise Unresolved
        return self.fold(found[0])

    def _list(self, node: ast.List | ast.Tuple) -> Value:
        return [self.fold(each) for each in node.elts[:MOST]]

    def _operation(self, node: ast.BinOp) -> Value:
        left = self.fold(node.left)
        if isinstance(left, PurePosixPath) and isinstance(node.op, ast.Div):
            return left / self._part(left, node.right)
        return OPERATORS[type(node.op)](left, self.fold(node.right))

    def _part(self, base: PurePosixPath, node: ast.expr) -> str | PurePosixPath:
        """Return a part of a path; below ``api.data_dir`` it may be anything."""
        try:
            value = self.fold(node)
        except Unresolved:
            if DATA_DIR in (base, *base.parents):
                return "…"
            raise
        return value if isinstance(value, str | PurePosixPath) else unseen()

    def _joined(self, node: ast.JoinedStr) -> Value:
        first = node.values[0] if node.values else None
        if isinstance(first, ast.FormattedValue) and self.is_in_data_dir(first.value):
            return DATA_DIR / "…"
        return "".join(str(self._embedded(each)) for each in node.values)

    def _embedded(self, node: ast.expr) -> Value:
        if not isinstance(node, ast.FormattedValue):
            return self.fold(node)
        plain = node.format_spec is None and node.conversion in (-1, ord("s"))
        value = self.fold(node.value) if plain else unseen()
        if isinstance(value, bytes | list):
            raise Unresolved
        return value

    def is_in_data_dir(self, node: ast.expr) -> bool:
        try:
            value = self.fold(node)
        except Unresolved:
            return False
        return isinstance(value, PurePosixPath) and DATA_DIR in (value, *value.parents)

    def _item(self, node: ast.Subscript) -> Value:
        base = self.fold(node.value)
        if isinstance(base, PurePosixPath | int):
            raise Unresolved
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            return base[slice(*(None if part is None else self._number(part) for part in parts))]
        return cast(Value, base[self._number(node.slice)])

    def _number(self, node: ast.expr) -> int:
        value = self.fold(node)
        return value if isinstance(value, int) else unseen()

    def _minus(self, node: ast.UnaryOp) -> Value:
        return -self._number(node.operand) if isinstance(node.op, ast.USub) else unseen()

    def _each(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
        (loop,) = node.generators
        if not isinstance(loop.target, ast.Name) or loop.ifs:
            raise Unresolved
        values, name, before = items(self.fold(loop.iter)), loop.target.id, dict(self._local)
        try:
            return [self._with(name, item, node.elt) for item in values]
        finally:
            self._local = before

    def _with(self, name: str, item: Any, node: ast.expr) -> Value:
        self._local[name] = item
        return self.fold(node)

    def _attribute(self, node: ast.Attribute) -> Value:
        known = self._scope.resolve(node)
        if known == "@api.data_dir":
            return DATA_DIR
        if known == "@api.name" and self._name:
            return self._name
        if node.attr in ("parent", "name", "stem"):
            base = self.fold(node.value)
            return cast(Value, getattr(base, node.attr)) if isinstance(base, PurePosixPath) else unseen()
        found = self._scope.bound(f"{node.value.id}.{node.attr}") if isinstance(node.value, ast.Name) else []
        return self.fold(found[0]) if len(found) == 1 and found[0] is not None else unseen()

    def _call(self, node: ast.Call) -> Value:
        if node.keywords and not isinstance(node.func, ast.Attribute):
            raise Unresolved
        known = self._scope.resolve(node.func)
        if known in PATHS or known == "os.path.join":
            return self._path(node.args)
        if known == "builtins.map" and len(node.args) == 2:
            function = FUNCTIONS[self._scope.resolve(node.args[0])]
            return [function(item) for item in items(self.fold(node.args[1]))]
        if known in FUNCTIONS:
            return FUNCTIONS[known](*map(self.fold, node.args))
        return self._method(node)

    def _path(self, args: Iterable[ast.expr]) -> PurePosixPath:
        path = PurePosixPath()
        for number, each in enumerate(args):
            path = path / (self._part(path, each) if number else as_path(self.fold(each)))
        return path

    def _method(self, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Attribute) or node.keywords:
            raise Unresolved
        base = self.fold(node.func.value)
        return METHODS[node.func.attr](base, *map(self.fold, node.args))

    def _pieces(self, node: ast.expr) -> Iterator[str | None]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from self._pieces(node.left)
            yield from self._pieces(node.right)
        elif isinstance(node, ast.JoinedStr):
            for each in node.values:
                yield self._piece(each)
        else:
            yield self._piece(node)

    def _piece(self, node: ast.expr) -> str | None:
        try:
            return str(self._embedded(node))
        except Unresolved:
            return None


_FOLDS: Mapping[type[ast.AST], Callable[[Constants, Any], Value]] = {
    ast.Constant: Constants._constant,
    ast.Name: Constants._named,
    ast.List: Constants._list,
    ast.Tuple: Constants._list,
    ast.BinOp: Constants._operation,
    ast.UnaryOp: Constants._minus,
    ast.JoinedStr: Constants._joined,
    ast.Subscript: Constants._item,
    ast.ListComp: Constants._each,
    ast.GeneratorExp: Constants._each,
    ast.Attribute: Constants._attribute,
    ast.Call: Constants._call,
}


def _absolute(file: str) -> PurePosixPath:
    """Return the absolute path; unchanged if the working folder no longer exists."""
    try:
        return PurePosixPath(os.path.abspath(file))
    except FileNotFoundError:
        return PurePosixPath(file)
