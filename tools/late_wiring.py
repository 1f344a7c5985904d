"""Find assignments to attributes of other objects: parts that are wired together after their construction.

    .venv/bin/python -m tools.late_wiring [FILE_OR_FOLDER ...]

An object is complete when its constructor returns, so that it never needs to be asked whether it is. What
becomes known later is passed to it through a method. Allowed are ``self`` and ``cls``, counters, the plain records
of ``RECORDS``, which have no behaviour to hide, and the objects of Python and of libraries: what a module imports from
outside this package, what ``OF_PYTHON`` lists, and special names such as ``__name__``. Exit status 1 if something was
found.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parent.parent
# What is checked by default.
CHECKED = (ROOT / "src" / "microkernel",)
# The only module that puts parts together.
ASSEMBLY = "assembly.py"
# Names of variables that hold objects of Python and of libraries.
OF_PYTHON = {
    "at_end": "a weakref.finalize",
    "context": "an SSLContext",
    "error": "an exception",
    "function": "a function that is described or marked",
    "linker": "a Linker of wasmtime",
    "logger": "a Logger",
    "made": "a class that is built",
    "init": "its constructor",
    "module": "a module of the standard library that is adapted to a level, or a module of a plugin",
    "owner": "a class or module of the standard library that a thread plugin changed, in interpreter_state",
    "refusal": "an exception",
    "spec": "a ModuleSpec",
    "wasi": "a WasiConfig of wasmtime",
}
# How a C function of ctypes is declared.
_DECLARATIONS = ("argtypes", "restype")
# Names of variables that hold plain records, by what these are: state that the threads of the kernel share, and
# messages on their way. Everything else has methods.
RECORDS = {
    "record": "PluginRecord: what the kernel knows of a plugin; changed with its lock held",
    "instance": "Instance: flags that a state has been reached",
    "new": "an Instance that replaces it",
    "candidate": "an Instance that is dropped",
    "pending": "PendingCall: a row of the table of calls",
    "channel": "DirectChannel: a row of the table of direct channels",
    "served": "a direct server's notes of the call that is being handled",
    "pending.call": "the wire's Call in it",
    "pending.delivery": "the CallDelivery in it",
    "message": "a message of the wire",
    "event": "an EventDelivery that is put back",
    "old": "an Instance that is replaced, or the TopicSubscription of the generation before",
    "notes": "the journal's notes of a plugin",
    "backoff": "the restart schedule's notes of a plugin",
    "self._backoff(record)": "the restart schedule's notes of a plugin",
    "oldest": "the watchdog's notes of an instance",
    "beats": "the heartbeat's notes of an instance",
    "subscription": "TopicSubscription: the number that the present instance gave it",
    "block": "Block: whether it was free when it was last looked at",
    "greeting": "how far a new watcher has come through the present keys",
    "failure": "an error that is about to be returned",
    "ring": "the part of a Wakeup that outlives it, in the Wakeup's constructor",
    "job": "Job: the task that runs it",
    "job.work": "the RequestContext in it",
    "self.work": "the same",
    "timer": "Timer: when it is due, and whether it runs",
    "load": "a Load message, which is adapted to a level before it is sent",
    "reply": "a Response on its way",
    "raw": "a Raw: a part of a message",
    "self._own": "a threading.local",
    "record.mailbox": "Mailbox.paused and .progress, which are plain flags; a method call would cost the hot path",
    "mailbox": "the same",
    "instance.mailbox": "the same",
}


def late_wiring(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, target) of each assignment to an attribute of another object."""
    tree = ast.parse(source)
    foreign = {*_imported(tree), *OF_PYTHON}
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif _is_setattr(node) and not _is_allowed(node.args[0], foreign):
            yield node.lineno, ast.unparse(node)
        for target in targets:
            for each in _attributes(target):
                if not (_is_allowed(each.value, foreign) or each.attr in _DECLARATIONS or each.attr.startswith("__")):
                    yield each.lineno, ast.unparse(each)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module imports from outside this package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = (each for each in node.names if each.name.partition(".")[0] != "microkernel")
            yield from (each.asname or each.name.partition(".")[0] for each in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] != "microkernel":
            yield from (each.asname or each.name for each in node.names)


def _is_setattr(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr"


def _attributes(target: ast.expr) -> Iterator[ast.Attribute]:
    if isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from _attributes(each)
    elif isinstance(target, ast.Attribute):
        yield target


def _is_allowed(owner: ast.expr, foreign: set[str]) -> bool:
    text = ast.unparse(owner)
    root = text.partition(".")[0]
    return text in ("self", "cls") or text in RECORDS or text.endswith(".counts") or root in foreign


def check(paths: tuple[Path, ...]) -> list[str]:
    """Return a line for each assignment that was found below these paths."""
    files = (file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py"))))
    return [
        f"{file}:{line}: {target} is set from outside its object"
        for file in files
        if file.name != ASSEMBLY
        for line, target in late_wiring(file.read_text(encoding="utf-8"))
    ]


def main() -> int:
    found = check(tuple(map(Path, sys.argv[1:])) or CHECKED)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
