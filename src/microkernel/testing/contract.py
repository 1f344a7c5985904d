"""The contract of a Host: what plugins can rely on at every isolation level."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from microkernel.errors import KernelError
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.manifest import LEVELS, Level
from microkernel.testing.checks import (
    buffers,
    calls,
    circles,
    concurrency,
    configuration,
    context,
    deadlines,
    deaths,
    events,
    kills,
    lifecycle,
    mailboxes,
    output,
    payloads,
    permissions,
    readiness,
    reload_calls,
    reloads,
    restarts,
    state_exports,
    stops,
    timing,
    typed,
)
from microkernel.testing.harness import Workspace
from microkernel.testing.levels import levels_of

Outcome = Literal["passed", "failed", "excepted", "not for this level"]
_MODULES = (
    lifecycle, stops, configuration, output, events, permissions, mailboxes, typed, payloads, buffers, calls,
    deadlines, circles, context, timing, concurrency, kills, deaths, restarts, readiness, reloads,
    reload_calls, state_exports,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One clause of the contract. Call it with a level; it raises, mostly AssertionError, if the clause is violated.

    ``text`` describes what is checked. ``levels`` are the levels that the check applies to: a thread, for example,
    cannot survive ``os._exit``. At other levels the call does nothing.
    """

    name: str
    text: str
    levels: Collection[Level]
    function: Callable[[Workspace], None]

    def __call__(
        self, level: Level, folder: Path | None = None, direct_after: int = KernelConfig().direct_after
    ) -> None:
        """Run the check in ``folder``, or in a temporary folder. ``direct_after`` is that of the kernel's
        configuration."""
        if level not in self.levels:
            return
        if folder is not None:
            self.function(Workspace(level, folder, direct_after))
            return
        with tempfile.TemporaryDirectory(prefix="microkernel-check-") as made:
            self.function(Workspace(level, Path(made), direct_after))


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a check. ``error`` is the traceback of what it raised, else empty; ``seconds`` is its duration."""

    name: str
    outcome: Outcome
    error: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.outcome:8} {self.name} ({self.seconds:.2f} s)\n{self.error}".rstrip()


def check_host(level: Level, exceptions: Collection[str] = ()) -> list[Result]:
    """Run the whole contract at one level and return a Result per check.

    The host is correct if no outcome is ``failed``. ``exceptions`` names checks that this level is known not to pass;
    they are not run, and listed as ``excepted``.

    Raises IsolationUnavailable if this machine cannot provide the level, ValueError for an unknown name in
    ``exceptions``, RuntimeError under ``python -O``, which removes the assertions.
    """
    _require_asserts()
    unknown = sorted(set(exceptions) - HOST_CHECKS.keys())
    if unknown:
        raise ValueError(f"there are no such checks: {', '.join(unknown)}")
    with (
        tempfile.TemporaryDirectory(prefix="microkernel-check-") as made,
        Workspace(level, Path(made)).run() as harness,
    ):
        if (error := harness.kernel.available()[level].error) is not None:
            raise error
    return [_run(check, level, check.name in exceptions) for check in HOST_CHECKS.values()]


def _run(check: Check, level: Level, excepted: bool) -> Result:
    if excepted:
        return Result(check.name, "excepted", "", 0.0)
    if level not in check.levels:
        return Result(check.name, "not for this level", "", 0.0)
    began = time.monotonic()
    try:
        check(level)
    except (Exception, KernelError):
        return Result(check.name, "failed", traceback.format_exc(), time.monotonic() - began)
    return Result(check.name, "passed", "", time.monotonic() - began)


def _require_asserts() -> None:
    if not __debug__:
        raise RuntimeError("python -O takes the asserts away: there would be nothing to check")


def _checks_in(module: ModuleType) -> Iterator[Check]:
    for name, function in vars(module).items():
        if getattr(function, "__module__", "") == module.__name__ and name.startswith("check_"):
            text = (function.__doc__ or "").strip()
            yield Check(name.removeprefix("check_"), text, levels_of(function), function)


# Every check by its name: ``HOST_CHECKS["calls_return"]("thread")``.
HOST_CHECKS: dict[str, Check] = {check.name: check for module in _MODULES for check in _checks_in(module)}

assert set(LEVELS) >= {level for check in HOST_CHECKS.values() for level in check.levels}
