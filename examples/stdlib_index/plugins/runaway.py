# /// script
# [tool.microkernel]
# version = "1.0"
# requires = ["aggregator"]
#
# [tool.microkernel.limits]
# handler = 1.5      # seconds that a handler may take
#
# [tool.microkernel.supervision]
# intensity = 50     # restarts within 30 s before it is quarantined
# backoff = 0.05
# backoff_max = 0.2
# ///
"""A parser that sometimes hangs. The kernel detects this by ``limits.handler``, ends it, starts the next generation and
redelivers unfinished events. No file is lost, and no other plugin waits."""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

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


@dataclass
class Config:
    """The first ``hangs`` generations hang, each at one of its first ``within`` files, chosen by ``seed``."""

    hangs: int = 2
    within: int = 80
    seed: int = 0


class Plugin(IPlugin):
    """Parses files and hangs."""

    def __init__(self, api: PluginAPI) -> None:
        self.api = api
        self.by = f"{api.name} {api.version}"
        config: Config = api.config
        # It hangs at its n-th file; 0 means never. It does not hang at the first, because that is the one that the
        # previous generation hung on, and an event that ends three in a row becomes a dead letter.
        self.good_for = 0
        if api.generation <= config.hangs:
            self.good_for = Random(f"runaway {config.seed} {api.generation}").randint(2, config.within)

    def start(self) -> None:
        """Events arrive after this method has returned."""

    @on("file.found.runaway")
    def parse(self, path: str) -> None:
        self.good_for -= 1
        if self.good_for == 0:
            while True:
                pass
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
