"""The same count without a kernel: one process, one loop, another way through the tree. The demo's check."""

import ast
import gc
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

KINDS = ("files", "lines", "functions", "classes", "imports", "todos", "unparsable")


def python_files(root: str = "") -> list[str]:
    """All files of Python below ``root``, or of the standard library without what was installed beside it."""
    top = Path(root or sysconfig.get_path("stdlib"))
    found = (path for path in top.rglob("*.py") if path.is_file())
    return sorted(str(path) for path in found if not {"site-packages", "dist-packages"} & set(path.parts[:-1]))


def plain_count(paths: Sequence[str], tick: Callable[[], object] = lambda: None) -> dict[str, int]:
    """The totals. ``tick`` is called after each file."""
    totals: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    gc.disable()  # trees have no cycles, and looking for some takes a fifth of the time
    try:
        for path in paths:
            totals.update(count_file(path))
            tick()
    finally:
        gc.enable()
    return dict(totals)


def count_file(path: str) -> Counter[str]:
    with open(path, "rb") as file:
        source = file.read()
    counts = Counter({"files": 1})
    lines = source.split(b"\n")
    counts["lines"] = len(lines) - 1
    counts["todos"] = sum(bool(re.search(rb"\bTODO\b", line.partition(b"#")[2])) for line in lines if b"TODO" in line)
    visitor = RemoteClient()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            visitor.visit(compile(source, path, "exec", ast.PyCF_ONLY_AST))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return counts + by_its_looks(source)
    return counts + visitor.counts


class RemoteClient(ast.NodeVisitor):
    """Goes into statements, not into expressions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def visit_FunctionDef(self, node: ast.AST) -> None:
        self.counts["functions"] += 1
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.AST) -> None:
        self.counts["classes"] += 1
        self.generic_visit(node)

    def visit_Import(self, node: ast.AST) -> None:
        self.counts["imports"] += 1

    visit_ImportFrom = visit_Import  # noqa: N815

    def generic_visit(self, node: ast.AST) -> None:
        for block in vars(node).values():
            if isinstance(block, list):
                for child in block:
                    if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                        self.visit(child)


def by_its_looks(source: bytes) -> Counter[str]:
    """For what Python cannot parse: lines that begin like a statement."""
    counts = Counter({"unparsable": 1})
    for line in source.split(b"\n"):
        words = re.sub(rb"^async[ \t]+(?=def[ \t])", b"", line.lstrip(b" \t"))
        counts["functions"] += words.startswith((b"def ", b"def\t"))
        counts["classes"] += words.startswith((b"class ", b"class\t"))
        counts["imports"] += words.startswith((b"import ", b"import\t", b"from ", b"from\t"))
    return counts
