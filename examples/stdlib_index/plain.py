"""The same count without a kernel, in one process and one loop, with other code. The demo compares itself with it."""

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
    """Return all Python files below ``root``, by default of the standard library without installed packages."""
    top = Path(root or sysconfig.get_path("stdlib"))
    found = (path for path in top.rglob("*.py") if path.is_file())
    return sorted(str(path) for path in found if not {"site-packages", "dist-packages"} & set(path.parts[:-1]))


def plain_count(paths: Sequence[str], tick: Callable[[], object] = lambda: None) -> dict[str, int]:
    """Return the totals. ``tick`` is called after each file."""
    totals: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    gc.disable()  # trees have no cycles, and looking for them takes a fifth of the time
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
    visitor = StatementCounter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            visitor.visit(compile(source, path, "exec", ast.PyCF_ONLY_AST))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return counts + by_its_looks(source)
    return counts + visitor.counts


class StatementCounter(ast.NodeVisitor):
    """Counts statements. It does not look into expressions."""

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
    """Count lines that start like a statement, for files that Python cannot parse."""
    counts = Counter({"unparsable": 1})
    for line in source.split(b"\n"):
        words = re.sub(rb"^async[ \t]+(?=def[ \t])", b"", line.lstrip(b" \t"))
        counts["functions"] += words.startswith((b"def ", b"def\t"))
        counts["classes"] += words.startswith((b"class ", b"class\t"))
        counts["imports"] += words.startswith((b"import ", b"import\t", b"from ", b"from\t"))
    return counts
