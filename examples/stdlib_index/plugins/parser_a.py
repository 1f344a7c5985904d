# /// script
# [tool.microkernel]
# version = "1.0"
# requires = ["aggregator"]
# ///
"""Counts what is in its share of the files. Look at: a plugin like any other; that it can be killed, crash or be
replaced in mid-flight is not its business. Its counting is its own: plugins do not import each other."""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from microkernel import IPlugin, PluginAPI, on

MARKS = {
    "lines": re.compile(rb"\n"),
    "todos": re.compile(rb"#.*\bTODO\b"),
}
KINDS = {
    "functions": (ast.FunctionDef, ast.AsyncFunctionDef),
    "classes": (ast.ClassDef,),
    "imports": (ast.Import, ast.ImportFrom),
}
LOOKS = {
    "functions": re.compile(rb"^[ \t]*(?:async[ \t]+)?def[ \t]", re.MULTILINE),
    "classes": re.compile(rb"^[ \t]*class[ \t]", re.MULTILINE),
    "imports": re.compile(rb"^[ \t]*(?:import|from)[ \t]", re.MULTILINE),
}
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


class Plugin(IPlugin):
    """Parses files, one event each."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.by = f"{api.name} {api.version}"

    def start(self) -> None:
        """Events come after this has returned."""

    @on("file.found.a")
    def parse(self, path: str) -> None:
        self.api.emit("file.counted", path=path, by=self.by, counts=count(Path(path).read_bytes()))

    def stop(self) -> None:
        """Nothing to clean up."""


def count(source: bytes) -> dict[str, int]:
    """Lines, functions, classes, imports and TODO comments of a file, and 1 for itself."""
    counts = {name: len(pattern.findall(source)) for name, pattern in MARKS.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statements = Counter(type(each) for each in statements_of(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # Python 2, or broken on purpose: go by its looks
        looks = {name: len(pattern.findall(source)) for name, pattern in LOOKS.items()}
        return {"files": 1, "unparsable": 1, **counts, **looks}
    kinds = {name: sum(statements[kind] for kind in kinds) for name, kinds in KINDS.items()}
    return {"files": 1, "unparsable": 0, **counts, **kinds}


def statements_of(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements. Expressions, nine tenths of a tree, are not looked into: none of what we count is in one."""
    stack = [tree]
    while stack:
        node = stack.pop()
        for block in BLOCKS:
            inner = getattr(node, block, ())
            yield from inner
            stack += inner
