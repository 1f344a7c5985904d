"""Handle of the inspector, the process that parses the files of plugins: ask it, and end it when a text takes too much.

The inspector starts when something is first to be parsed. A kernel without plugins needs none, and neither does one
whose plugins all run in its own process.
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
# Seconds that the process may take to start.
_START_TIMEOUT = 20.0
# When this many texts took too much within ``_RECENT`` seconds, the others get less time, so that a folder of them does
# not keep the kernel from opening.
_MANY_OVERRUNS = 3
# Wall-clock time that a text may take, as a multiple of the processor time, which the process limits itself: on a busy
# machine it waits for its turns.
_CLOCK_FACTOR = 4
_RECENT = 60.0
# Combined with a pid, the clock of that process's processor time: `clock_getcpuclockid` in C.
_CPU_CLOCK = 2
_SECONDS_AFTER_MANY = 0.5
_SHARE_AFTER_MANY = 0.75
# The package's own module is replaced by an empty one, because it imports what an inspector does not need.
_BOOT = """import sys
sys.path[:0] = sys.argv[1:-2]
package = sys.modules["microkernel"] = type(sys)("microkernel")
package.__path__ = [sys.argv[1] + "/microkernel"]
from microkernel.inspector.process import main
main()"""
_PYTHON = re.compile(r"python[0-9.]*")
_NEEDED = ("msgspec", "packaging")


class Inspector:
    """Parses texts in a separate process, one at a time. On any thread."""

    def __init__(self, python: str = "", memory: int = MEMORY, seconds: float = SECONDS) -> None:
        """``python``: the interpreter of workers. It is used where this program is not Python's own executable, but a
        server that embeds Python."""
        self._python = sys.executable if _PYTHON.match(os.path.basename(sys.executable)) or not python else python
        self._memory = memory
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        # The channel of a process that was started and is not yet ready.
        self._starting: socket.socket | None = None
        self._overruns: list[float] = []
        self._own = threading.local()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Run an operation in the process and return its answer.

        Raises NotParsed or NotFinished; PluginLoadError MK0147 if the process cannot be started.
        """
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
        """Return the seconds of processor time that all requests of the calling thread took, without waiting for other
        threads.

        For a process that only waits, a part of the wall-clock time counts if that is more.
        """
        spent: float = getattr(self._own, "spent", 0.0)
        return spent

    def _used(self) -> float:
        """Return the processor time of the process in seconds, by the system's own clock for it; 0 if there is no
        process."""
        try:
            return time.clock_gettime(~self._process.pid << 3 | _CPU_CLOCK) if self._process else 0.0
        except OSError:
            return 0.0  # it has exited

    def discard(self) -> None:
        """End the process: its answer was wrong, or the texts of a plugin took too much in all."""
        with self._lock:
            self._overruns.append(time.monotonic())
            self._end()

    def close(self) -> None:
        """End the process. Idempotent; a further request starts it again."""
        with self._lock:
            self._end()

    def _time_limit(self) -> float:
        """Return the seconds for the next text."""
        return min(self._seconds, _SECONDS_AFTER_MANY) if self._is_hurried() else self._seconds

    def share(self) -> float:
        """Return which part of the usual time all texts of a plugin together get."""
        with self._lock:
            return _SHARE_AFTER_MANY if self._is_hurried() else 1.0

    def _is_hurried(self) -> bool:
        now = time.monotonic()
        self._overruns = [each for each in self._overruns if now - each < _RECENT]
        return len(self._overruns) >= _MANY_OVERRUNS

    def _exchange(self, request: bytes) -> dict[str, Any]:
        """Send a request and return the answer. A process that had died before is replaced once."""
        for is_last in (False, True):
            channel = self._channel or self._start()
            deadline = time.monotonic() + self._seconds * _CLOCK_FACTOR
            try:
                channel.settimeout(self._seconds * _CLOCK_FACTOR)  # for the whole request
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
        """Start the process without waiting for it. If it cannot be started, the first request raises."""
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
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            theirs.setblocking(True)  # `socket.setdefaulttimeout` of the program would make it non-blocking for both
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
    """Kill a process that was not ready in time, and return the last line that it printed.

    An embedding program that does not recognise that it was started as an interpreter prints what it always prints.
    """
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
    """Start the inspector with a clean environment, in its own session."""
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
    """Receive an answer. Raises OSError; ValueError if the answer is too long or ends early."""
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
    """Decode an answer. Raises ValueError."""
    answer = json.loads(content)
    if not isinstance(answer, dict) or not (answer.keys() == {"answer"} or answer.keys() == {"line", "reason"}):
        raise ValueError("no answer")
    if not isinstance(answer.get("line", 0), int):
        raise ValueError("no line")
    return answer
