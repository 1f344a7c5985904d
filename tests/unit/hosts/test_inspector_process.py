"""The process that parses the files of plugins is bounded for each text, replaced when it exits, and not trusted."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import ManifestError, PluginLoadError
from microkernel.hosts import inspector_process
from microkernel.hosts.inspector_process import Inspector
from microkernel.inspector.process import LENGTH
from microkernel.inspector.sources import NotFinished, NotParsed
from microkernel.loader import FileLoader, parsers
from microkernel.loader.auditor import audit
from microkernel.loader.parsers import facts_of, facts_of_all, parsing_with, toml_of
from microkernel.wire.topics import covers

CODE = "from microkernel import IPlugin\nclass Plugin(IPlugin): ...\n"
# Each return within the `try` has its own copy of the `finally` block, so both numbers multiply.
COPIES = "def f(x):\n  try:\n" + "    if x: return\n" * 9000 + "  finally:\n" + "    a.b.c(d)\n" * 9000
LIST = "x = [" + "()," * 600_000 + "]\n"


@pytest.fixture
def inspector() -> Iterator[Inspector]:
    with closing(Inspector()) as inspector:
        yield inspector


def test_facts_of_a_source_are_those_of_this_process(inspector: Inspector) -> None:
    source = b"import os, billing\nif 1:\n    class Plugin(Base):\n        def f(self): billing.total()\n"
    here = facts_of(source, "p.py")
    with parsing_with(inspector):
        assert facts_of(source, "p.py") == here
    assert here.imports["billing"] == (1, 'self.api.call("billing.total", ...)')


@pytest.mark.parametrize("text", [
    "a = 1\nb = [1.5, true, 'x', [], {c = [[]]}]\nd = inf",
    "a = 2026-01-01\nb = 2026-01-01T01:02:03\nc = 2026-01-01T01:02:03.5+01:00\nd = 01:02:03",
    'a = "\\u0000\\u001b\\"é𐍈"\n"" = ["date", "2026-01-01"]',
])  # fmt: skip
def test_a_manifest_is_parsed_as_in_this_process(inspector: Inspector, text: str) -> None:
    here = toml_of(text, "plugin.toml")
    with parsing_with(inspector):
        assert toml_of(text, "plugin.toml") == here


def test_a_syntax_error_is_reported_as_in_this_process(inspector: Inspector) -> None:
    for make, text in ((facts_of, b"x = (\n"), (facts_of, b"x\0"), (toml_of, "a = ")):
        with pytest.raises(PluginLoadError) as here:
            make(text, "p")  # type: ignore[operator]
        with parsing_with(inspector), pytest.raises(PluginLoadError) as there:
            make(text, "p")  # type: ignore[operator]
        assert (there.value.id, there.value.fields) == (here.value.id, here.value.fields)


@pytest.mark.parametrize("text", [COPIES, LIST], ids=["copies", "list"])
def test_a_source_over_its_limits_ends_the_inspector_and_the_next_is_parsed(inspector: Inspector, text: str) -> None:
    inspector.ask("facts", "x = 1")
    first = inspector.pid
    with pytest.raises(NotFinished):
        inspector.ask("facts", text)
    assert inspector.ask("facts", "x = 1") == [{}, "absent", 0]
    assert inspector.pid not in (first, None)


def test_processor_time_is_bounded_in_c_code() -> None:
    with closing(Inspector(memory=8 << 30, seconds=0.3)) as inspector, pytest.raises(NotFinished):
        inspector.ask("facts", COPIES)


def test_the_memory_is_bounded_by_the_system(inspector: Inspector) -> None:
    inspector.ask("facts", "x = 1")
    limits = Path(f"/proc/{inspector.pid}/limits").read_text(encoding="ascii")
    [line] = [line for line in limits.splitlines() if line.startswith("Max address space")]
    assert line.split()[3:5] == [str(inspector_process.MEMORY)] * 2


def test_several_overruns_reduce_the_time_for_other_sources(inspector: Inspector) -> None:
    assert inspector._time_limit() == inspector_process.SECONDS
    for _ in range(3):
        inspector.discard()
    assert inspector._time_limit() < 1.0


def test_an_inspector_that_has_died_is_replaced(inspector: Inspector) -> None:
    inspector.ask("facts", "x = 1")
    assert inspector._process is not None
    os.kill(inspector._process.pid, signal.SIGKILL)
    inspector._process.wait()
    assert inspector.ask("facts", "x = 1") == [{}, "absent", 0]


def test_a_prepared_inspector_is_used(inspector: Inspector) -> None:
    inspector.prepare()
    first = inspector.pid
    inspector.prepare()
    inspector.ask("facts", "x = 1")
    assert inspector.pid == first is not None
    inspector.close()
    inspector.prepare()
    inspector.close()
    assert inspector.pid is None


def test_it_ends_when_it_is_closed(inspector: Inspector) -> None:
    inspector.ask("facts", "x = 1")
    process = inspector._process
    assert process is not None
    inspector.close()
    inspector.close()
    assert process.returncode is not None
    assert inspector.pid is None


def test_an_inspector_that_cannot_start_fails_the_plugin() -> None:
    inspector = Inspector("/nowhere/server")
    inspector._python = "/nowhere/server"
    with pytest.raises(PluginLoadError) as caught:
        inspector.ask("facts", "x = 1")
    assert caught.value.id == "MK0147"
    inspector._python = "/bin/true"
    with pytest.raises(PluginLoadError) as caught:
        inspector.ask("facts", "x = 1")
    assert caught.value.id == "MK0147"


def test_a_lack_of_processes_is_reported_as_temporary(inspector: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(inspector_process.subprocess, "Popen", fail)
    with pytest.raises(PluginLoadError) as caught:
        inspector.ask("facts", "x = 1")
    assert caught.value.shortage


# An inspector that a text has taken over may answer anything


class FakeParser:
    """A Parser that gives one fixed answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.discarded = 0

    def prepare(self) -> None: ...

    def ask(self, operation: str, *arguments: Any) -> Any:
        return self.answer

    def spent(self) -> float:
        return 0.0

    def share(self) -> float:
        return 1.0

    def discard(self) -> None:
        self.discarded += 1

    def close(self) -> None: ...


DEEP: Any = ["list"]
for _ in range(100_000):
    DEEP = ["list", DEEP]
ANSWERS = [
    None, 1, "", [], {}, ["facts"], [1, 2, 3], [{}, "absent", "1"], [{}, "other", 1], [{"a": 1}, "fits", 1],
    [{"a": ["x", "y"]}, "fits", 1], [[], "fits", 1],
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_malformed_facts_are_rejected(answer: Any) -> None:
    parser = FakeParser(answer)
    with parsing_with(parser), pytest.raises(PluginLoadError) as caught:
        facts_of(b"x = 1", "p.py")
    assert (caught.value.id, parser.discarded) == ("MK0145", 1)


@pytest.mark.parametrize("answer", [
    None, 1, [], ["list"], {"a": None}, {"a": []}, {"a": ["date", "x"]}, {"a": ["datetime", 1]}, {"a": "\ud800"},
    {"\ud800": 1}, {"a": ["list", ["other"]]}, {"a": DEEP},
], ids=lambda answer: str(type(answer)))  # fmt: skip
def test_malformed_tables_are_rejected(answer: Any) -> None:
    parser = FakeParser(answer)
    with parsing_with(parser), pytest.raises(ManifestError) as caught:
        toml_of("a = 1", "plugin.toml")
    assert (caught.value.id, parser.discarded) == ("MK0145", 1)


@pytest.mark.parametrize("answer", [None, [1], [[]], [["f", 1, 1, "MK9999", {}, False]], [["f", "x", 1, "emit", "a"]]])
def test_malformed_findings_are_rejected(tmp_path: Path, answer: Any) -> None:
    (tmp_path / "hello.py").write_text(CODE)
    [found] = FileLoader().discover([str(tmp_path)])

    class Half(FakeParser):
        def ask(self, operation: str, *arguments: Any) -> Any:
            return [{}, "fits", 1] if operation == "facts" else self.answer

    with parsing_with(Half(answer)):
        report = audit(found, (), (), covers)
    assert report.error is not None
    assert report.error.id == "MK0145"


def test_an_audit_names_the_file_that_is_over_its_limits(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(CODE)
    [found] = FileLoader().discover([str(tmp_path)])
    with parsing_with(FakeParser(None)):
        report = audit(found, (), (), covers)
    assert report.error is not None
    assert report.error.fields["path"].endswith(f"{tmp_path.name}/hello.py")


@pytest.mark.parametrize("sent", [
    LENGTH.pack(2**32 - 1), LENGTH.pack(5) + b"12345", LENGTH.pack(2) + b"{}", LENGTH.pack(4) + b"\xff\xff\xff\xff",
    LENGTH.pack(6) + b'{"a":1', LENGTH.pack(200_000) + b"[" * 200_000, LENGTH.pack(9) + b"1",
    LENGTH.pack(26) + b'{"line":"x","reason":"no"}',
    LENGTH.pack(6000) + b'{"answer":' + b"1" * 5989 + b"}", b"",
], ids=lambda sent: str(sent[:12]))  # fmt: skip
def test_malformed_frames_are_rejected(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    inspector = Inspector(seconds=2.0)
    ours, theirs = socket.socketpair()
    inspector._channel = ours
    with closing(inspector), theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(NotFinished):
            inspector.ask("facts", "x = 1")


def test_an_answer_that_never_ends_is_waited_for_no_longer_than_allowed() -> None:
    inspector = Inspector(seconds=0.1)
    ours, theirs = socket.socketpair()
    inspector._channel = ours
    with closing(inspector), theirs, pytest.raises(NotFinished):
        inspector.ask("facts", "x = 1")


def test_a_refusal_says_its_reason_shortly() -> None:
    inspector = Inspector()
    ours, theirs = socket.socketpair()
    inspector._channel = ours
    with closing(inspector), theirs:
        answer = json.dumps({"line": 3, "reason": "x" * 10_000}).encode()
        theirs.sendall(LENGTH.pack(len(answer)) + answer)
        with pytest.raises(NotParsed) as caught:
            inspector.ask("facts", "x = 1")
    assert (caught.value.line, len(caught.value.reason)) == (3, 500)


def test_the_sources_of_a_plugin_are_bounded_together() -> None:
    class Slow(FakeParser):
        asked = 0

        def ask(self, operation: str, *arguments: Any) -> Any:
            self.asked += 1
            return self.answer

        def spent(self) -> float:
            return self.asked * 0.4

    parser = Slow([{}, "fits", 1])
    with parsing_with(parser), pytest.raises(PluginLoadError) as caught:
        facts_of_all({f"part{number}.py": b"x = 1" for number in range(9)}, "/plugins/p")
    assert (caught.value.id, parser.asked, parser.discarded) == ("MK0145", 3, 1)


def test_all_sources_together_get_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "facts_of", lambda data, path: None)

    class Slow(FakeParser):
        asked = 0

        def spent(self) -> float:
            self.asked += 1
            return self.asked * 1.0

    with parsing_with(Slow(None)), pytest.raises(PluginLoadError, match="more than 10 s"):
        facts_of_all({f"part{number}.py": bytes(1 << 20) for number in range(32)}, "/plugins/p")


def test_plugins_get_less_time_after_several_overruns(inspector: Inspector) -> None:
    assert inspector.share() == 1.0
    for _ in range(3):
        inspector.discard()  # so does the code that adds up their time
    assert inspector.share() == 0.75


def test_processor_time_is_counted(inspector: Inspector) -> None:
    inspector.ask("facts", "x = 1")
    before = inspector.spent()
    assert inspector.pid is not None
    os.kill(inspector.pid, signal.SIGSTOP)
    waking = threading.Timer(0.4, os.kill, (inspector.pid, signal.SIGCONT))
    waking.start()
    inspector.ask("facts", "x = 1")
    waking.join()
    assert 0.05 < inspector.spent() - before < 0.3  # a quarter of its wall-clock time


def test_time_of_other_threads_is_not_counted(inspector: Inspector) -> None:
    inspector.ask("facts", "x = 1")
    mine = inspector.spent()
    assert mine > 0.0
    other = threading.Thread(target=inspector.ask, args=("facts", "x = 1"))
    other.start()
    other.join()
    assert inspector.spent() == mine


# In a kernel


def test_a_kernel_without_plugins_starts_no_inspector(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        assert kernel._parser.made is None  # type: ignore[attr-defined]


def test_a_kernel_continues_despite_a_plugin_that_is_over_its_limits(tmp_path: Path) -> None:
    methods = "".join(f"\n    def {method}: ..." for method in ("__init__(self, api)", "start(self)", "stop(self)"))
    (tmp_path / "evil.py").write_text(CODE + COPIES)
    (tmp_path / "good.py").write_text(CODE.replace("...", methods))
    with Kernel(tmp_path) as kernel:
        states = {info.name: info.state for info in kernel.list()}
        evil = kernel.info("evil")
        inspector = kernel._parser.made  # type: ignore[attr-defined]
    assert inspector.pid is None  # it exited with the kernel
    assert states == {"evil": "failed", "good": "active"}
    assert str(evil.error).startswith("MK0145")


def test_plugins_at_thread_are_parsed_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(CODE)
    with Kernel(tmp_path, isolation="thread") as kernel:
        assert kernel.info("hello").state != "discovered"
        assert "microkernel.hosts.inspector_process" in sys.modules
        assert not hasattr(kernel._parser, "made")
