"""What an attempt may reach for: files, listeners and a process that are there to be hurt, and tell when they were."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_VICTIM = """
import ctypes, os, sys, time
secret = sys.stdin.readline().strip()
buffer = ctypes.create_string_buffer(secret.encode())
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # where the system asks: anybody may trace it
file = open(sys.argv[1])
os.unlink(sys.argv[1])
print(ctypes.addressof(buffer), file.fileno(), flush=True)
for line in sys.stdin: print(buffer.value.decode(), flush=True)
"""


class Victim:
    """A process with a secret in its memory, in a file that only it has open, in its arguments, in its environment."""

    def __init__(self, folder: Path) -> None:
        self.secret = secrets.token_hex(16)
        file = folder / f"victim-{self.secret[:8]}"
        file.write_text(self.secret)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _VICTIM, str(file), f"--token={self.secret}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"MK_VICTIM": self.secret},
        )
        self.pid = self._process.pid
        self._tell(self.secret)
        self.address, self.descriptor = map(int, self._line().split())

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def memory(self) -> str:
        """What is in its buffer now."""
        self._tell("")
        return self._line()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                with contextlib.suppress(BrokenPipeError):
                    end.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Listeners:
    """Sockets of all kinds on this machine, and all that came in by them."""

    def __init__(self, folder: Path) -> None:
        self.abstract = f"redteam-{secrets.token_hex(8)}"
        self._heard: dict[str, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._ours: list[socket.socket] = []
        local = ("127.0.0.1", 0)
        self.tcp = self._add("tcp", socket.AF_INET, socket.SOCK_STREAM, local).getsockname()[1]
        self.udp = self._add("udp", socket.AF_INET, socket.SOCK_DGRAM, local).getsockname()[1]
        self.unix, self.datagram = str(folder / "stream.sock"), str(folder / "datagram.sock")
        self._add("unix", socket.AF_UNIX, socket.SOCK_STREAM, self.unix)
        self._add("datagram", socket.AF_UNIX, socket.SOCK_DGRAM, self.datagram)
        self._add("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.abstract}")
        self._end, wake = socket.socketpair()
        self._wake = wake
        self._selector.register(self._end, selectors.EVENT_READ, "")
        self._thread = threading.Thread(target=self._run, name="redteam-listeners", daemon=True)
        self._thread.start()

    def heard(self, way: str, token: str) -> bool:
        return token.encode() in self._heard.get(way, b"")

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        for each in (*self._ours, self._end):
            each.close()

    def _add(self, way: str, family: int, kind: int, address: Any) -> socket.socket:
        ours = socket.socket(family, kind)
        ours.bind(address)
        if kind == socket.SOCK_STREAM:
            ours.listen()
        ours.setblocking(False)
        self._ours.append(ours)
        self._selector.register(ours, selectors.EVENT_READ, way)
        return ours

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if not key.data:
                    return
                self._take(key.data, key.fileobj)

    def _take(self, way: str, ours: Any) -> None:
        with contextlib.suppress(OSError):
            if ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                with ours.accept()[0] as stream:
                    stream.settimeout(1)
                    data = stream.recv(4096)
            else:
                data = ours.recv(4096)
            self._heard[way] = self._heard.get(way, b"") + data


class Files:
    """Of the kernel's user, and nobody else's business. New for each attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        self.secret_file = self._write("secret.txt", self.secret)
        self.target = self._write("target.txt", "original")
        self.tool = self._write("tool.sh", "")
        (folder / "listed").mkdir()
        (folder / "listed" / self.secret).touch()
        (folder / "link").symlink_to(self.secret)
        self.metadata = os.stat(self.target)
        self._has_attributes = self._label()

    def content(self) -> str:
        return self.target.read_text() if self.target.exists() else "gone"

    def now(self) -> os.stat_result:
        return os.stat(self.target)

    def label(self) -> bytes:
        """The attribute that an attempt may set."""
        try:
            return os.getxattr(self.target, "user.redteam")
        except OSError:
            return b""

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def _label(self) -> bool:
        try:
            os.setxattr(self.secret_file, "user.secret", self.secret.encode())
        except OSError:
            return False
        return True
