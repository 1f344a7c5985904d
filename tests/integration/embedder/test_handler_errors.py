"""Exceptions of the embedding program's handlers are visible: on stderr, in a log, or raised."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import InvalidArguments, KernelError

PROGRAM = """
import logging, sys
from microkernel import Kernel
{setup}
def broken(number): raise KeyError("here")
def misnamed(nummer): ...
async def broken_too(number): raise KeyError("here")
with Kernel(sys.argv[1], name="program") as kernel:
    kernel.on("a.b", {handler}, inline={inline})
    kernel.emit("a.b", number=1)
"""


def stderr_of(folder: Path, handler: str, setup: str = "", inline: bool = False) -> str:
    source = PROGRAM.format(setup=setup, handler=handler, inline=inline)
    done = subprocess.run(
        [sys.executable, "-c", source, str(folder)], capture_output=True, text=True, check=True, timeout=60,
        env={"XDG_STATE_HOME": str(folder), "PATH": ""},
    )  # fmt: skip
    return done.stderr


@pytest.mark.parametrize("inline", [False, True])
def test_an_error_is_printed_to_stderr_if_logging_is_not_configured(tmp_path: Path, inline: bool) -> None:
    said = stderr_of(tmp_path, "broken", inline=inline)
    assert "MK0619 broken(a.b) of the embedding program raised KeyError: 'here'" in said
    assert "Traceback" in said
    assert "in broken" in said
    said = stderr_of(tmp_path, "misnamed", inline=inline)
    assert "misnamed(a.b)" in said
    assert "nummer" in said


@pytest.mark.parametrize(
    "setup",
    [
        "logging.basicConfig(filename=sys.argv[1] + '/log')",
        "logging.getLogger('microkernel').addHandler(logging.FileHandler(sys.argv[1] + '/log'))",
    ],
)
def test_an_error_is_only_logged_if_logging_is_configured(tmp_path: Path, setup: str) -> None:
    assert stderr_of(tmp_path, "broken", setup) == ""
    assert "KeyError: 'here'" in (tmp_path / "log").read_text()


def test_an_error_is_silent_if_the_program_disables_the_logger(tmp_path: Path) -> None:
    assert stderr_of(tmp_path, "broken", "logging.getLogger('microkernel').setLevel(logging.CRITICAL)") == ""
    assert stderr_of(tmp_path, "broken", "logging.lastResort = None") == ""


def broken(number: int) -> None:
    raise ZeroDivisionError(number)


def misnamed(nummer: int) -> None: ...


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("handler", "kind"), [(broken, ZeroDivisionError), (misnamed, InvalidArguments)])
def test_an_inline_error_is_raised_out_of_emit(
    tmp_path: Path, handler: Callable[..., Any], kind: type[Exception], once: bool
) -> None:
    with Kernel(tmp_path, raise_handler_errors=True) as kernel:
        kernel.on("a.b", handler, inline=True, once=once)
        with pytest.raises(kind):
            kernel.emit("a.b", number=1)
        kernel.emit("other")


def test_several_errors_are_a_group(tmp_path: Path) -> None:
    with Kernel(tmp_path, raise_handler_errors=True) as kernel:
        kernel.on("a.b", broken, inline=True)
        kernel.on("a.b", misnamed, inline=True)
        with pytest.raises(ExceptionGroup) as group:
            kernel.emit("a.b", number=1)
        assert [type(error) for error in group.value.exceptions] == [ZeroDivisionError, InvalidArguments]


def test_an_error_on_the_kernels_thread_is_raised_at_the_next_use(tmp_path: Path) -> None:
    handled = threading.Event()
    with Kernel(tmp_path, raise_handler_errors=True) as kernel:
        kernel.on("a.b", broken)
        kernel.on("a.b", lambda number: handled.set())
        kernel.emit("a.b", number=1)
        assert handled.wait(30)
        with pytest.raises(ZeroDivisionError):
            kernel.list()
        kernel.list()


def test_an_error_is_raised_by_close_at_the_latest(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Kernel(tmp_path, raise_handler_errors=True) as kernel:  # noqa: PT012
        kernel.on("a.b", broken)
        kernel.emit("a.b", number=1)
    kernel.close()


def test_a_handlers_error_does_not_replace_an_error_of_the_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KernelError, match="MK0612"), Kernel(tmp_path, raise_handler_errors=True) as kernel:  # noqa: PT012
        kernel.on("a.b", broken)
        kernel.emit("a.b", number=1)
        raise KernelError("MK0612", reason="mine")
    assert "ZeroDivisionError" in caplog.text


def test_an_error_is_sent_to_the_asker_and_reported(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Kernel(tmp_path, raise_handler_errors=True) as kernel:  # noqa: PT012
        kernel.on("a.b", broken)
        (tmp_path / "asker.py").write_text(
            "from microkernel import IPlugin, expose\n"
            "class Plugin(IPlugin):\n"
            "    def start(self): ...\n"
            "    def stop(self): ...\n"
            "    @expose\n"
            "    def ask(self): return [str(reply.error) for reply in self.api.ask('a.b', number=1)]\n"
        )
        kernel.load(tmp_path / "asker.py")
        (error,) = kernel.call("asker.ask")
        assert "ZeroDivisionError" in error


def leave(number: int) -> None:
    raise SystemExit(number)


def test_a_handler_that_exits_does_not_end_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = threading.Event()
    with Kernel(tmp_path) as kernel:
        kernel.on("a.b", leave)
        kernel.on("a.b", lambda number: heard.set())
        kernel.emit("a.b", number=1)
        assert heard.wait(30)
    assert "leave(a.b) of the embedding program raised SystemExit: 1" in caplog.text
