"""Ask the operator at the terminal whether a plugin may have what it asks for."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from microkernel.cli import streams
from microkernel.cli.output import Output
from microkernel.errors import KernelError
from microkernel.plugins.console import approval_view, view
from microkernel.plugins.console.translator import plain

if TYPE_CHECKING:
    from microkernel.kernel.kernel import Core

# Yes and remember; once; no.
Answer = Literal["y", "o", "n"]
_OUTCOMES = {"y": ("success", "grant.remembered"), "o": ("success", "grant.once"), "n": ("warn", "grant.refused")}


def ask_all(core: Core, output: Output) -> None:
    """Ask about each plugin that would be held, before the first plugin starts. Raises KeyboardInterrupt."""
    with _interruptible():
        for request in core.approvals.requests():
            answer = ask(asdict(request.review), output)
            if answer != "n":
                core.approvals.accept(request, remember=answer == "y")
            level, word = _OUTCOMES[answer]
            if answer == "n" and approval_view.is_limits_alone(asdict(request.review)):
                level, word = "notice", "grant.lowered"
            output.show([view.line(level, request.review.name, output.translator.word(word))])


def ask(review: Mapping[str, Any], output: Output) -> Answer:
    """Show a review and wait for an answer. The end of the input means no."""
    output.show(approval_view.question(review, output.translator))
    while True:
        streams.write(f"{output.translator.word('grant.allow')} ", sys.stdout)
        line = _read_line()
        match line.strip().lower()[:1]:
            case "y" | "o" | "n" as answer:
                return answer
            case "d":
                output.show(approval_view.details(review, output.translator))
        if not line:
            streams.write("\n", sys.stdout)
            return "n"


def ask_here(review: Mapping[str, Any], output: Output) -> Answer:
    """Ask if there is a terminal. Raises KernelError MK0416 if there is none."""
    if not output.as_json and sys.stdin.isatty() and sys.stdout.isatty():
        return ask(review, output)
    if not output.as_json:
        output.show(approval_view.question(review, output.translator))
    raise KernelError("MK0416", name=plain(review["name"]))


def _read_line() -> str:
    """Read a line of the terminal.

    A signal that arrives immediately before the read would not interrupt it, because its handler runs only afterwards.
    So this waits for the terminal and for signals, and reads when there is something to read.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    try:
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        while sys.stdin not in select.select([sys.stdin, woken], [], [])[0]:
            os.read(woken, 64)
    finally:
        signal.set_wakeup_fd(-1)
        os.close(woken)
        os.close(wake)
    return sys.stdin.readline()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on signals. If a handler only sets a flag, the read of the terminal continues."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
