"""Arena in which attempts really run: a kernel with the level, the assets that may be harmed, and the judge.

It runs in a separate process (``campaign.py``), so that the effects of an attempt end with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import pty
import secrets
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

from microkernel import Kernel
from microkernel.errors import CallFailed, IsolationUnavailable, KernelError, PluginDied, PluginLoadError
from microkernel.kernel.config import KernelConfig
from tests.security.attacks.support import eventually, manifest
from tests.security.redteam import proofs
from tests.security.redteam.canaries import Files, Listeners, Victim
from tests.security.redteam.model import ABSENT, CONFINED, NOWHERE, OPEN, SKIPPED, Answer, Attempt, Outcome
from tests.security.redteam.plugin import OTHER, source

_SEEN_IN = 10.0
"""Seconds in which what should succeed must show."""
_GRACE = 0.3
"""Seconds in which what should not succeed would have shown; less where the plugin says that it failed."""
_GRACE_AFTER_FAULT = 0.03
_RECORDS = 1000
_LONG = 10_000
_PADDING = "y" * 4000
"""A long request leaves more behind where it was freed than a later, short one writes over."""
GRANTED = "MK_GRANTED"
_GRANTED = "greedy"
"""What an attempt is called that is granted what it declares."""
_GRANTS = {"other": "declared", **{f"{_GRANTED}{number}": "declared" for number in range(1000)}}
_VARIABLES = ("MK_SECRET", "MK_ARGUMENT")


class Arena:
    """One kernel at one level. ``secrets_of_start``: what the process was started with."""

    def __init__(self, folder: Path, level: str, secrets_of_start: dict[str, str]) -> None:
        self.level = level
        self.user = "root" if os.geteuid() == 0 else "user"
        self.folder = folder
        self.events: list[tuple[str, str, Any]] = []
        self.records: list[logging.LogRecord] = []
        self.signals: list[int] = []
        self.answers: list[str] = []
        """What a caller of another plugin got."""
        self.gate = folder / "gate"
        self._waiting: threading.Thread | None = None
        self.token = ""
        self.before: dict[str, Any] = {}
        self._start = secrets_of_start
        self._count = 0
        self._buffer = ctypes.create_string_buffer(secrets.token_hex(16).encode())
        self._other_secret = secrets.token_hex(16)
        self._granted = f"{_PADDING}mkgrant-{secrets.token_hex(16)}"
        self._stdin = secrets.token_hex(16)
        self._victim: Victim | None = None
        folder.mkdir(exist_ok=True)
        self.files = Files(folder / "files-0")
        self.listeners = Listeners(folder)
        self.master, self._slave = pty.openpty()
        self.terminal = os.ttyname(self._slave)
        os.set_blocking(self.master, False)
        self._prepare_process()

    def __enter__(self) -> Arena:
        os.environ[GRANTED] = self._granted
        plugins = self.folder / "plugins"
        plugins.mkdir()
        forever = {"restart": "permanent", "intensity": 1000, "backoff": 0.01, "backoff_max": 0.1}
        tables = {"permissions": {"emit": ["other.*"], "env": [GRANTED]}, "supervision": forever}
        (plugins / "other.py").write_text(manifest(**tables) + OTHER % {"secret": self._other_secret})
        config = KernelConfig(data_dir=str(self.folder / "state"), min_isolation="thread")
        self.kernel = Kernel(plugins, config=config, isolation=self.level, grants=_GRANTS)  # type: ignore[arg-type]
        self.kernel.open()
        if (info := self.kernel.info("other")).state != "active":
            self.kernel.close()
            raise IsolationUnavailable("MK0501", level=self.level, reason=str(info.error))
        self.kernel.on("**", self._note, inline=True)
        self.kernel.on("kernel.**", self._note, inline=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.kernel.close()
        self.listeners.close()
        if self._victim is not None:
            self._victim.close()

    @property
    def victim(self) -> Victim:
        assert self._victim is not None
        return self._victim

    @property
    def data(self) -> Path:
        """The data folder of the plugin that attacks."""
        return self.folder / "state" / self._name

    def zygote(self) -> int:
        return int(getattr(self.kernel._hosts._hosts.get(self.level), "zygote_pid", None) or 0)  # type: ignore[call-overload]

    def buffer(self) -> str:
        """What is in the kernel's memory where a plugin may want to write."""
        return self._buffer.value.decode()

    def secrets(self) -> dict[str, str]:
        return {
            **self._start,
            "file": self.files.secret,
            "kernel": self._kernel_secret,
            "other": self._other_secret,
            "granted": self._granted.rpartition("-")[2],
            "stdin": self._stdin,
            "victim": self._victim.secret if self._victim else "-",
        }

    # One attempt

    def run(self, attempt: Attempt) -> Outcome:
        if (expected := attempt.expected(self.level, self.user)) in (SKIPPED, NOWHERE):
            return Outcome(attempt.name, expected, "")
        self._set_up(attempt)
        answer = self._try(attempt)
        try:
            return Outcome(attempt.name, OPEN if self._is_proven(attempt, answer) else "blocked", answer.fault)
        except Exception as error:
            return Outcome(attempt.name, "unknown", f"it could not be judged: {error!r}")
        finally:
            self._clean_up()

    def _set_up(self, attempt: Attempt) -> None:
        self._count += 1
        self._name = f"{_GRANTED if 'permissions' in attempt.manifest else 'intruder'}{self._count}"
        self.token = secrets.token_hex(16)
        self.files = Files(self.folder / f"files-{self._count}")
        self.files.tool.write_text('#!/bin/sh\necho ran > "$1"\n')
        self.files.tool.chmod(0o700)
        self._kernel_secret = secrets.token_hex(16)
        self.before = {"namespaces": {}, "resident": proofs.resident()}
        self._buffer.value = self._kernel_secret.encode()
        self.signals.clear()
        self.answers.clear()
        if "f.victim" in attempt.code:
            self._victim = Victim(self.folder)
        with contextlib.suppress(BlockingIOError):
            os.read(self.master, 65536)

    def _try(self, attempt: Attempt) -> Answer:
        path = self.folder / f"{self._name}.py"
        path.write_text(source(attempt.code, attempt.manifest))
        pid = None
        try:
            self.kernel.load(path)
            pid = self.kernel.info(self._name).pid or os.getpid()
            self._remember(pid)
            facts = self._facts(str(path))
            if "f.gate" in attempt.code:
                self._begin_call()
            answer = self.kernel.call(f"{self._name}.attempt", facts, timeout=attempt.seconds)
        except KernelError as error:
            return Answer(fault=fault_of(error), pid=pid)
        match answer:
            case ["told", value]:
                return Answer(value, pid=pid)
            case ["fault", _, _, module, name] if has(module, name):
                return Answer(fault=ABSENT, pid=pid)
            case ["fault", fault, *_]:
                return Answer(fault=fault, pid=pid)
        return Answer(pid=pid)  # what it forged itself

    def _begin_call(self) -> None:
        """Somebody waits for another plugin's answer, which comes when the gate is there."""
        self.gate.unlink(missing_ok=True)
        self._waiting = threading.Thread(target=lambda: self.answers.append(self._call_slowly()))
        self._waiting.start()
        eventually(lambda: self.kernel.info("other").waiting)

    def _call_slowly(self) -> str:
        return str(self.kernel.call("other.slowly", str(self.gate), timeout=20))

    def _remember(self, pid: int) -> None:
        """How it was before the attempt."""
        spaces = {kind: proofs.namespace(pid, kind) for kind in proofs.NAMESPACES}
        self.before = {"namespaces": spaces, "resident": proofs.resident(), "code": proofs.writable_code(pid)}

    def _facts(self, path: str) -> dict[str, Any]:
        files, listeners, victim = self.files, self.listeners, self._victim
        # It answers once it has been restarted, if the attempt before killed it: only then does it have a pid.
        of_other = self.kernel.call("other.facts")
        return {
            "secret_file": str(files.secret_file), "target": str(files.target), "folder": str(files.folder),
            "data": str(self.data), "own": path, "tool": str(files.tool), "token": self.token,
            "tcp": listeners.tcp, "udp": listeners.udp, "unix": listeners.unix, "datagram": listeners.datagram,
            "abstract": listeners.abstract, "kernel": os.getpid(), "kernel_address": ctypes.addressof(self._buffer),
            "kernel_file": self._kept_open(), "zygote": self.zygote(), "terminal": self.terminal,
            "victim": victim.pid if victim else 0, "victim_address": victim.address if victim else 0,
            "victim_descriptor": victim.descriptor if victim else 0, "plugins": str(self.folder / "plugins"),
            "gate": str(self.gate), "level": self.level, "is_watched": self.level in CONFINED,
            "ran": str(self.data / "ran"), "mark": GRANTED,
            "other_pid": self.kernel.info("other").pid or os.getpid(), **of_other,
        }  # fmt: skip

    def _kept_open(self) -> int:
        """A file that only the kernel still has: its secret is nowhere else."""
        path = self.files.folder / "kept"
        path.write_text(self._kernel_secret)
        self._kept = os.open(path, os.O_RDONLY)
        path.unlink()
        return self._kept

    def _is_proven(self, attempt: Attempt, answer: Answer) -> bool:
        grace = _GRACE if answer.fault == "nothing" else _GRACE_AFTER_FAULT
        should_succeed = attempt.expected(self.level, self.user) == OPEN and not attempt.varies
        until = time.monotonic() + (_SEEN_IN if should_succeed else grace)
        while not attempt.proof(self, answer):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def _clean_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if zygote := self.zygote():
                os.kill(zygote, signal.SIGCONT)
        os.chdir(self.folder)
        with contextlib.suppress(KernelError):
            self.kernel.kill(self._name)
        with contextlib.suppress(KernelError):
            self.kernel.unload(self._name)
        if self.kernel.info("other").state == "stopped":
            self.kernel.start("other")
        if self._victim is not None:
            self._victim.close()
            self._victim = None
        if self._waiting is not None:
            self.gate.touch()
            self._waiting.join()
            self._waiting = None
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._kept)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.files.folder, ignore_errors=True)

    # What the process itself is

    def _prepare_process(self) -> None:
        reading, writing = os.pipe()
        os.write(writing, f"{self._stdin}\n".encode())
        os.close(writing)
        os.dup2(reading, 0)
        signal.signal(signal.SIGUSR1, lambda number, _: self.signals.append(number))
        logger = logging.getLogger("microkernel")
        logger.addHandler(_Keeper(self.records))
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def _note(self, event: Any) -> None:
        if not event.topic.startswith("kernel.log."):  # kept as records, some of them
            data = {key: value for key, value in event.data.items() if not _is_long(value)}
            self.events.append((event.topic[:_LONG], event.source, data))


def has(module: str, name: str) -> bool:
    """This interpreter has what a plugin found missing."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return False
    return not name or hasattr(found, name)


def _is_long(value: object) -> bool:
    """It would fill the kernel's process by the arena's doing."""
    return isinstance(value, str | bytes) and len(value) > _LONG


class _Keeper(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
        del self._records[:-_RECORDS]


def fault_of(error: KernelError) -> str:
    """What it met, in a word."""
    if isinstance(error, CallFailed):
        return str(error.fields.get("type") or error)
    if isinstance(error, PluginLoadError):
        return str(error.fields.get("kind") or error.fields.get("type") or error.id)
    if isinstance(error, PluginDied):
        text = str(error)
        return "SIGSYS" if "SIGSYS" in text or "signal 31" in text else text
    return type(error).__name__
