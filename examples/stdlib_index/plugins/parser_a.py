# /// script
# [tool.microkernel]
# version = "1.0"
# requires = ["aggregator"]
# ///
"""Count the contents of a quarter of the files. It contains no code for being killed, crashing or being replaced.
Plugins do not import each other, so the counting functions are repeated in each parser."""

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
        """Events arrive after this method has returned."""

    @on("file.found.a")
    def parse(self, path: str) -> None:
        self.api.emit("file.counted", path=path, by=self.by, counts=count(Path(path).read_bytes()))

    def stop(self) -> None:
        """There is nothing to clean up."""


def count(source: bytes) -> dict[str, int]:
    """Count lines, functions, classes, imports and TODO comments of a file, and the file itself."""
    counts = {name: len(pattern.findall(source)) for name, pattern in MARKS.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statements = Counter(type(each) for each in statements_of(ast.parse(source)))
    except (
        SyntaxError,
        ValueError,
        RecursionError,
        MemoryError,
    ):  # Python 2, or broken on purpose: use patterns
        looks = {name: len(pattern.findall(source)) for name, pattern in LOOKS.items()}
        return {"files": 1, "unparsable": 1, **counts, **looks}
    kinds = {name: sum(statements[kind] for kind in kinds) for name, kinds in KINDS.items()}
    return {"files": 1, "unparsable": 0, **counts, **kinds}


def statements_of(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements. Expressions, nine tenths of a tree, contain nothing that is counted and are skipped."""
    stack = [tree]
    while stack:
        node = stack.pop()
        for block in BLOCKS:
            inner = getattr(node, block, ())
            yield from inner
            stack += inner
