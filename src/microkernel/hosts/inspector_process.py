"""The kernel's handle on the process that parses the files of plugins: ask it, end it when a text takes too much.

A kernel whose plugins all run in its own process needs none, and neither does one without plugins: it is started when
something is first to be parsed.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from microkernel.errors import PluginLoadError, shortage_in
from microkernel.hosts.worker.environment import interpreter_options, read_at_exec, zygote_environment
from microkernel.inspector.process import LENGTH, MAX_ANSWER, MAX_REQUEST
from microkernel.inspector.sources import NotFinished, NotParsed

MEMORY = 256 << 20
SECONDS = 5.0
# How long the process may take to start.
_START_TIMEOUT = 20.0
# When so many texts took too much within so many seconds, the others get less time: a folder of them must not keep the
# kernel from opening.
_MANY_OVERRUNS = 3
# How many times as long a text may take by the clock as in processor time, which the process limits itself: on a busy
# machine it waits for its turns.
_CLOCK_FACTOR = 4
_RECENT = 60.0
# With the number of a process, the clock of its processor time: `clock_getcpuclockid` in C.
_CPU_CLOCK = 2
_SECONDS_AFTER_MANY = 0.5
_SHARE_AFTER_MANY = 0.75
# The package's own module is left out: it imports what an inspector does not need.
_BOOT = """import sys
sys.path[:0] = sys.argv[1:-2]
package = sys.modules["microkernel"] = type(sys)("microkernel")
package.__path__ = [sys.argv[1] + "/microkernel"]
from microkernel.inspector.process import main
main()"""
_PYTHON = re.compile(r"python[0-9.]*")
_NEEDED = ("msgspec", "packaging")


class Inspector:
    """Of any thread. One text is parsed at a time."""

    def __init__(self, python: str = "", memory: int = MEMORY, seconds: float = SECONDS) -> None:
        """``python``: the interpreter of workers. It parses as well where this program is not Python's own executable,
        but a server that Python is embedded in."""
        self._python = sys.executable if _PYTHON.match(os.path.basename(sys.executable)) or not python else python
        self._memory = memory
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        # Of a process that was started, and has not yet said that it is ready.
        self._starting: socket.socket | None = None
        self._overruns: list[float] = []
        self._own = threading.local()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Raises NotParsed, NotFinished; PluginLoadError MK0147 where the process cannot be started."""
        with self._lock:
            seconds = self._time_limit()
            request = json.dumps([seconds, operation, *arguments], ensure_ascii=False).encode()
            if len(request) > MAX_REQUEST:
                raise NotFinished(f"more than {MAX_REQUEST >> 20} MiB")
            if self._channel is None:
                self._start()
            began, used = time.monotonic(), self._used()
            try:
                answer = self._exchange(request)
            finally:
                waited = (time.monotonic() - began) / _CLOCK_FACTOR
                self._own.spent = self.spent() + max(self._used() - used, waited)
        if "answer" in answer:
            return answer["answer"]
        raise NotParsed(answer["line"], str(answer["reason"])[:500])

    def spent(self) -> float:
        """Seconds of processor time that all questions of the calling thread took; a part of what they took by the
        clock where that is more, for a process that only waits. Without what they waited for those of others."""
        spent: float = getattr(self._own, "spent", 0.0)
        return spent

    def _used(self) -> float:
        """Seconds of processor time of the process, by the system's own clock of it; 0 where there is none."""
        try:
            return time.clock_gettime(~self._process.pid << 3 | _CPU_CLOCK) if self._process else 0.0
        except OSError:
            return 0.0  # it has ended

    def discard(self) -> None:
        """End the process: what it answered was wrong, or the texts of a plugin took too much in all."""
        with self._lock:
            self._overruns.append(time.monotonic())
            self._end()

    def close(self) -> None:
        """Idempotent; it is started again if it is asked again."""
        with self._lock:
            self._end()

    def _time_limit(self) -> float:
        """Seconds for the next text."""
        return min(self._seconds, _SECONDS_AFTER_MANY) if self._is_hurried() else self._seconds

    def share(self) -> float:
        """Of the time for all texts of a plugin."""
        with self._lock:
            return _SHARE_AFTER_MANY if self._is_hurried() else 1.0

    def _is_hurried(self) -> bool:
        now = time.monotonic()
        self._overruns = [each for each in self._overruns if now - each < _RECENT]
        return len(self._overruns) >= _MANY_OVERRUNS

    def _exchange(self, request: bytes) -> dict[str, Any]:
        """A process that had died before it was asked is replaced."""
        for is_last in (False, True):
            channel = self._channel or self._start()
            deadline = time.monotonic() + self._seconds * _CLOCK_FACTOR
            try:
                channel.settimeout(self._seconds * _CLOCK_FACTOR)  # of all of it
                channel.sendall(LENGTH.pack(len(request)) + request)
                return _answer(_receive(channel, deadline))
            except (BrokenPipeError, ConnectionResetError):
                self._end()
                if is_last:
                    raise self._overrun() from None
            except (OSError, ValueError, RecursionError):
                raise self._overrun() from None
        raise AssertionError("the loop returns or raises")

    def _overrun(self) -> NotFinished:
        self._overruns.append(time.monotonic())
        self._end()
        return NotFinished(f"it takes more than {self._seconds:g} s or {self._memory >> 20} MiB")

    def prepare(self) -> None:
        """Have the process started, and do not wait for it. Where it cannot be, the first question says so."""
        with self._lock, suppress(OSError):
            if self._process is None:
                self._spawn()

    def _start(self) -> socket.socket:
        try:
            channel = self._starting or self._spawn()
            if _read(channel, LENGTH.size, time.monotonic() + _START_TIMEOUT) != LENGTH.pack(0):
                raise ValueError("it is not an inspector")
        except (OSError, ValueError) as error:
            output = _last_line_of(self._process)
            self._end()
            raise _unavailable(error, output) from None
        self._channel, self._starting = channel, None
        return channel

    def _spawn(self) -> socket.socket:
        """Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            theirs.setblocking(True)  # `socket.setdefaulttimeout` of the program makes it another, for both
            try:
                self._process = _spawn(self._python, theirs, self._memory)
            except OSError:
                ours.close()
                raise
        self._starting = ours
        return ours

    def _end(self) -> None:
        for channel in (self._channel, self._starting):
            if channel is not None:
                channel.close()
        process, self._process, self._channel, self._starting = self._process, None, None, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


def _last_line_of(process: subprocess.Popen[bytes] | None) -> str:
    """The last line that one printed which was not ready in time. A program that does not know that it is its own
    interpreter prints what it always does."""
    if process is None or process.stderr is None:
        return ""
    process.kill()
    process.wait()
    os.set_blocking(process.stderr.fileno(), False)
    try:
        lines = os.read(process.stderr.fileno(), 1 << 16).decode(errors="backslashreplace").strip().splitlines()
    except BlockingIOError:
        return ""
    return lines[-1][:500] if lines else ""


def _unavailable(error: Exception, output: str) -> PluginLoadError:
    failure = PluginLoadError("MK0147", reason=shortage_in(error) or output or str(error))
    failure.shortage = shortage_in(error)
    return failure


def _spawn(python: str, channel: socket.socket, memory: int) -> subprocess.Popen[bytes]:
    """With a clean environment, in a session of its own."""
    variables = read_at_exec("sandbox")
    paths = [str(Path(__file__).parents[2])]
    paths += [str(Path(spec.origin).parents[1]) for spec in map(find_spec, _NEEDED) if spec and spec.origin]
    return subprocess.Popen(
        [python, *interpreter_options(variables), "-S", "-c", _BOOT, *paths, str(os.getpid()), str(memory)],
        stdin=channel.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=zygote_environment(variables),
    )


def _receive(channel: socket.socket, deadline: float) -> bytes:
    """Raises OSError, ValueError for an answer that is too long or ends early."""
    (size,) = LENGTH.unpack(_read(channel, LENGTH.size, deadline))
    if size > MAX_ANSWER:
        raise ValueError("a long answer")
    return _read(channel, size, deadline)


def _read(channel: socket.socket, size: int, deadline: float) -> bytes:
    content = bytearray()
    while len(content) < size:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        part = channel.recv(min(1 << 16, size - len(content)))
        if not part:
            raise ValueError("it has ended")
        content += part
    return bytes(content)


def _answer(content: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    answer = json.loads(content)
    if not isinstance(answer, dict) or not (answer.keys() == {"answer"} or answer.keys() == {"line", "reason"}):
        raise ValueError("no answer")
    if not isinstance(answer.get("line", 0), int):
        raise ValueError("no line")
    return answer
