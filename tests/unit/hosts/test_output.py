"""Output of a worker arrives as lines, with whole characters, redacted secrets, and no endless line."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import pytest

from microkernel import Kernel
from microkernel.hosts.worker.output import MAX_LINE, Output
from microkernel.hosts.worker.time_share import TimeShares
from microkernel.wire.secrets import Secrets


class ManualReactor:
    """A reactor driven by the test: scheduled work runs when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def watch(self, fd: int, ready: Callable[[], object], *, write: bool = False) -> None:
        self.ready, self.is_watched = ready, True

    def unwatch(self, fd: int) -> None:
        self.is_watched = False

    def later(self, seconds: float, work: Callable[[], object]) -> Callable[[], object]:
        self.waiting.append(work)
        return work

    def pass_time(self) -> None:
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


class OutputPipe:
    """A pipe that is written to piece by piece."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self.lines: list[str] = []
        self.reactor = ManualReactor()
        ours, self._theirs = os.pipe()
        os.set_blocking(ours, False)
        self._output = Output(ours, self.reactor, self.lines.append, Secrets(secrets))  # type: ignore[arg-type]
        self._output.open()

    def write(self, *pieces: bytes) -> list[str]:
        for piece in pieces:
            for at in range(0, len(piece), 4096):
                os.write(self._theirs, piece[at : at + 4096])
                self.reactor.ready()
        return self.lines

    def end(self) -> list[str]:
        os.close(self._theirs)
        self._output.close()
        return self.lines


@pytest.mark.parametrize("text", ["汉" * 6000, "a" + "汉" * 40_000, "😀" * 30_000, "é", "", "x" * (MAX_LINE + 1)])
def test_a_line_is_not_cut_inside_a_character(text: str) -> None:
    printed = OutputPipe()
    lines = printed.write(f"{text}\n".encode())
    assert "".join(lines) == text
    assert max(map(len, lines)) <= MAX_LINE
    printed.end()


def test_a_character_that_arrives_in_pieces_is_joined() -> None:
    printed = OutputPipe()
    assert printed.write(*(bytes([byte]) for byte in "汉😀\n".encode())) == ["汉😀"]
    assert printed.end() == ["汉😀"]


def test_bytes_that_are_not_utf_8_are_escaped() -> None:
    printed = OutputPipe()
    printed.write(b"caf\xe9 \xff\n", b"\xe6\xb1")
    assert printed.end() == [r"caf\xe9 \xff", r"\xe6\xb1"]


def test_an_endless_line_arrives_in_pieces() -> None:
    printed = OutputPipe()
    printed.write(b"ab" * MAX_LINE)
    assert 1 <= len(printed.lines) <= 2
    assert "".join(printed.end()) == "ab" * MAX_LINE


def test_a_progress_bar_is_shown_at_once_then_once_a_second_and_at_its_end() -> None:
    printed = OutputPipe()
    for percent in range(100):
        printed.write(f"\r{percent}%".encode())
    assert printed.lines == ["0%"]
    printed.reactor.pass_time()
    assert printed.lines == ["0%", "98%"]
    printed.write(b"\r100%\n", b"done\n")
    printed.reactor.pass_time()
    assert printed.lines == ["0%", "98%", "100%", "done"]
    assert printed.end() == ["0%", "98%", "100%", "done"]


def test_a_progress_bar_that_ends_without_a_newline_shows_its_last_state() -> None:
    printed = OutputPipe()
    printed.write(*(b"%d%%\r" % percent for percent in range(100)))
    assert printed.end() == ["0%", "99%"]
    printed = OutputPipe()
    printed.write(*(b"\r%d%%" % percent for percent in range(100)))
    assert printed.end() == ["0%", "99%"]


def test_a_carriage_return_before_a_newline_is_part_of_it() -> None:
    printed = OutputPipe()
    printed.write(b"one\r\ntwo\r", b"\nthree\r\n\r\n")
    assert printed.end() == ["one", "two", "three", ""]


@pytest.mark.parametrize("before", range(MAX_LINE - 12, MAX_LINE + 2))
def test_a_secret_is_redacted_where_a_long_line_is_split(before: int) -> None:
    for end in (b"\n", b"", b"y" * MAX_LINE):
        printed = OutputPipe(["correct-horse"])
        printed.write(b"x" * before + b"correct", b"-horse" + end)
        text = "".join(printed.end())
        assert text == "x" * before + "***" + end.decode().strip("\n")


PRINTER = r"""
import sys
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): pass
    def stop(self): pass
    @expose
    def print(self):
        print("汉" * 6000)
        for i in range(1000): print(f"\r{i} of 1000", end="", flush=True)
        print()
        sys.stdout.buffer.write(b"caf\xe9\n")
        print("half \ud800 a character")
        print("the end")
"""


def test_at_level_process(tmp_path: os.PathLike[str]) -> None:
    plugins = os.path.join(tmp_path, "plugins")
    os.mkdir(plugins)
    with open(os.path.join(plugins, "printer.py"), "w", encoding="utf-8") as file:
        file.write(PRINTER)
    with Kernel(plugins, isolation="process") as kernel:
        ended = threading.Event()
        kernel.on("kernel.log.printer", lambda text: text != "the end" or ended.set())
        kernel.call("printer.print")
        assert ended.wait(20)
        texts = [line.text for line in kernel.core.plugins.logs("printer")]
    assert texts[0] == "汉" * 6000
    assert (texts[1], texts[-4]) == ("0 of 1000", "999 of 1000")
    assert len(texts) < 20
    assert texts[-3:] == [r"caf\xe9", r"half \ud800 a character", "the end"]


class UntrustedOutputPipe(OutputPipe):
    """An untrusted worker's pipe: its lines are charged to an account."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__(secrets)
        self._output.charge_to(TimeShares(lambda: 0.0).account())


@pytest.fixture
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a turn as short as one step."""
    monkeypatch.setattr("microkernel.hosts.worker.output._TURN", 0.0)


@pytest.mark.usefixtures("_short_turns")
def test_a_line_is_searched_for_many_secrets_in_turns() -> None:
    printed = OutputPipe([f"secret{number}" for number in range(100)])
    os.write(printed._theirs, b"x" * 10_000 + b"secret7 \n")
    printed.reactor.ready()
    turns = 0
    while not printed.lines:
        printed.reactor.pass_time()
        turns += 1
    assert printed.lines == ["x" * 10_000 + "*** "]
    assert turns >= 10


@pytest.mark.usefixtures("_short_turns")
def test_many_lines_that_arrive_at_once_are_emitted_in_turns() -> None:
    printed = OutputPipe()
    os.write(printed._theirs, b"\n" * 10_000)
    printed.reactor.ready()
    turns = 0
    while printed.reactor.waiting:
        printed.reactor.pass_time()
        turns += 1
    assert turns >= 3
    assert printed.lines == [""] * 10_000
    assert printed.write(b"more\n")[-1] == "more"


@pytest.mark.usefixtures("_short_turns")
def test_lines_of_an_untrusted_worker_that_has_exited_are_emitted_in_turns() -> None:
    printed = UntrustedOutputPipe()
    os.write(printed._theirs, b"x\n" * 5_000 + b"last")
    assert len(printed.end()) < 5_000
    while printed.reactor.waiting:
        printed.reactor.pass_time()
    assert printed.lines == [*["x"] * 5_000, "last"]


@pytest.mark.usefixtures("_short_turns")
def test_lines_of_a_trusted_worker_are_emitted_when_it_has_exited() -> None:
    printed = OutputPipe()
    os.write(printed._theirs, b"x\n" * 5_000 + b"last")
    assert printed.end() == [*["x"] * 5_000, "last"]


def test_an_untrusted_worker_whose_lines_cost_much_is_not_read_for_a_while() -> None:
    printed = UntrustedOutputPipe()
    account = printed._output._account
    assert account is not None
    account.spend(1.0)
    printed.write(b"x\n")
    assert printed.lines == ["x"]
    assert printed.reactor.waiting
    assert not printed.reactor.is_watched
    printed.reactor.pass_time()
    assert printed.reactor.is_watched
