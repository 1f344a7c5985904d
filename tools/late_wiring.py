"""Find assignments to attributes of other objects: parts that are wired together after their construction.

    .venv/bin/python -m tools.late_wiring [FILE_OR_FOLDER ...]

An object is complete when its constructor returns, so that it never needs to be asked whether it is. What
becomes known later is passed to it through a method. Allowed are ``self`` and ``cls``, counters, and the plain records
of ``RECORDS``, which have no behaviour to hide. Exit status 1 if something was found.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where it is checked by default: the packages in which nothing is found.
CHECKED = tuple(
    ROOT / "src" / "microkernel" / name for name in ("control", "inspector", "kernel", "messages", "plugins")
)
# The only module that puts parts together.
ASSEMBLY = "assembly.py"
# Names of variables that hold plain records, by what these are: state that the threads of the kernel share, and
# messages on their way. Everything else has methods.
RECORDS = {
    "record": "PluginRecord: what the kernel knows of a plugin; changed with its lock held",
    "instance": "Instance: flags that a state has been reached",
    "new": "an Instance that replaces it",
    "candidate": "an Instance that is dropped",
    "pending": "PendingCall: a row of the table of calls",
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
    "record.mailbox": "Mailbox.paused and .progress, which are plain flags; a method call would cost the hot path",
    "mailbox": "the same",
    "instance.mailbox": "the same",
}


def late_wiring(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, target) of each assignment to an attribute of another object."""
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
            yield node.lineno, ast.unparse(node)
        for target in targets:
            yield from _attributes(target)


def _attributes(target: ast.expr) -> Iterator[tuple[int, str]]:
    if isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from _attributes(each)
    elif isinstance(target, ast.Attribute):
        owner = ast.unparse(target.value)
        if owner not in ("self", "cls") and owner not in RECORDS and not owner.endswith(".counts"):
            yield target.lineno, ast.unparse(target)


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
