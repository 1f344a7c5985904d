"""What an attempt is: data. Nothing here runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.security.redteam.arena import Arena

LEVELS = ("thread", "process", "sandbox", "wasm")
CONFINED = ("sandbox", "wasm")
"""Levels that promise something against code that means harm."""
USERS = ("root", "user")
OPEN = "open"
SKIPPED = "not tried"
"""It would end the test itself, or change the process it runs in for good."""
NOWHERE = "no such thing"
"""It is aimed at what only another level has."""
ABSENT = "absent"
"""What a plugin met that reached for a module, or a name in one, which this machine's interpreter has."""
RIGHTS = "rights"
"""The layer that holds an ordinary user from what only root may do."""
LAYERS = {
    "wasm": "not in the guest",
    "guest": "only inside the guest",
    "engine": "engine limits",
    "landlock": "Landlock",
    "seccomp": "seccomp",
    "namespace": "namespaces",
    "capability": "capabilities",
    "rlimit": "resource limits",
    "watch": "monitored and killed by the kernel",
    "cgroup": "control group or monitoring",
    "gate": "the gate",
    "broker": "connections made by the kernel",
    "attributes": "the kernel changes only the plugin's own files",
    "frames": "frame limits",
    "session": "separate session and descriptors",
    "memory": "separate memory",
    "zygote": "cleanup by zygote and host",
    "importer": "the importer",
    "output": "output limits",
    "kept": "kernel quotas",
    RIGHTS: "user permissions",
    "system": "not available on this system",
}
_SAME_AT_WASM = frozenset({
    "gate", "broker", "frames", "kept", "output", "importer", "memory", "session", "zygote", "watch",
})  # fmt: skip
"""The kernel's own layers are there for a guest too. What the system's layers hold, a guest does not have at all."""
_NATIVE = re.compile(r"\b(ctypes|libc|syscall)\b")
MISTAKES = frozenset({"AttributeError", "IndexError", "KeyError", "NameError", "SyntaxError", "TypeError"})
"""An attempt that ends so was not made: it proves nothing."""
_NO_CALL = frozenset({
    "EBADF", "ENOENT", "ENOTCAPABLE", "ENOTSUP", "ENOSYS", "EPERM", "EXDEV", "NotImplementedError", "RuntimeError",
    "UnsupportedOperation", "ModuleNotFoundError",
})  # fmt: skip
"""What a guest's Python says where WASI has no call, or no path that leads there."""
EVIDENCE: Mapping[str, frozenset[str]] = {
    "landlock": frozenset({"EACCES", "EXDEV", "ModuleNotFoundError"}),
    "seccomp": frozenset({"EPERM", "ENOSYS", "ENOTSUP", "SIGSYS", "URLError", "ChildProcessError"}),
    "gate": frozenset({"PermissionDenied", "nothing"}),
    "broker": frozenset({"EPERM", "EACCES", "EBADF", "EMFILE", "URLError"}),
    "attributes": frozenset({"EPERM", "ENOENT", "ENOTDIR", "ELOOP", "EACCES", "nothing"}),
    "importer": frozenset({"MK0118"}),
    "kept": frozenset({"PayloadTooLarge", "nothing"}),
    "wasm": frozenset({ABSENT}) | _NO_CALL,
    "engine": frozenset({"MemoryError", "EACCES", "EIO", "gaierror", "URLError"}),
}
"""What an attempt must have met where it is said that this layer held it. A layer that is not here leaves no trace."""


@dataclass(frozen=True)
class Answer:
    """What came back of an attempt: ``told`` by the plugin, or the ``fault`` it met. Neither proves anything alone."""

    told: Any = None
    fault: str = "nothing"
    pid: int | None = None


Proof = Callable[["Arena", Answer], bool]


@dataclass(frozen=True)
class Attempt:
    """``code`` is the body of a function of a plugin, with the arena's facts as ``f``.

    ``thread``, ``process``, ``sandbox``: what is expected there, ``open``, ``not tried`` or the layer that blocks it.
    ``wasm``: the same where it is not as ``_SAME_AT_WASM`` has it.
    ``root``: only root may do it anyway, so that at levels without walls the rights of an ordinary user hold it.
    ``proof`` looks from outside. ``means`` says what follows where it is open at ``sandbox`` or ``wasm``, in both
    languages. ``slow``: for the long form only. ``varies``: machines are set up differently for it; where it fails
    without any wall, it proves nothing.
    """

    name: str
    zh: str
    code: str
    proof: Proof
    sandbox: str
    process: str = OPEN
    thread: str = OPEN
    wasm: str = ""
    root: bool = False
    varies: bool = False
    means: tuple[str, str] = ("", "")
    manifest: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 20.0
    slow: bool = False
    group: str = ""

    def expected(self, level: str, user: str) -> str:
        """What should come of it."""
        wanted = str(getattr(self, level)) or self._at_wasm()
        return RIGHTS if wanted == OPEN and self.root and user != "root" and level not in CONFINED else wanted

    def _at_wasm(self) -> str:
        return self.sandbox if self.sandbox in _SAME_AT_WASM and not _NATIVE.search(self.code) else "wasm"


@dataclass(frozen=True)
class Outcome:
    """``result``: ``open``, ``blocked`` or ``not tried``; ``fault`` is what the plugin met."""

    name: str
    result: str
    fault: str


def disagreement(attempt: Attempt, level: str, user: str, outcome: Outcome) -> str:
    """Why this outcome is not what was expected; empty if it is."""
    expected = attempt.expected(level, user)
    if outcome.fault in MISTAKES:
        return f"it was not made: {outcome.fault}"
    if attempt.varies and level not in CONFINED and expected != SKIPPED and outcome.result != "unknown":
        return ""
    if expected in (OPEN, SKIPPED, NOWHERE):
        return "" if outcome.result == expected else f"{outcome.result} ({outcome.fault}), expected {expected}"
    if outcome.result != "blocked":
        return f"{outcome.result}, expected to be blocked by {LAYERS[expected]}"
    if level == "wasm" and outcome.fault == ABSENT and expected != "wasm":
        return f"blocked, but not by {LAYERS[expected]}: what it needs is not in the guest"
    met = EVIDENCE.get(expected)
    return "" if met is None or outcome.fault in met else f"blocked, but by {outcome.fault}: not {LAYERS[expected]}"
