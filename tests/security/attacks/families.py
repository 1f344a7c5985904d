"""Families: what a plugin starts that does not want to be found, and how to know for certain that none of it is left.

Every member inherits one open lock file, through fork and exec. The system gives the lock up when the last of them has
ended, so no look at ``/proc`` is needed, which a member that leaps from process to process would slip through.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

from tests.security.attacks.support import Plugins, eventually

LIFE = 120
"""Seconds after which a member ends by itself: no failed test leaves the machine a process for good."""

SOURCE = """
import fcntl
LIFE = {life}
MARK = {mark!r}
def daemon(lock, body):
    '''A grandchild in a session of its own, forked twice, with nobody it belongs to.'''
    code = (
        "import os, sys\\n"
        "if os.fork(): os._exit(0)\\n"
        "os.setsid()\\n"
        "if os.fork(): os._exit(0)\\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {{body!r}}, {{MARK!r}}])\\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, pass_fds=[lock])
SITTING = f"import time; time.sleep({{LIFE}})"
LEAPING = f'''
import os, time
until = time.monotonic() + {{LIFE}}
while time.monotonic() < until:
    if os.fork(): os._exit(0)
    os.setsid()
    time.sleep(0.01)
'''
DEAF = f"import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep({{LIFE}})"
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        lock = os.open(f"{{MARK}}.{{self.api.generation}}", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.set_inheritable(lock, True)
        daemon(lock, SITTING)
        daemon(lock, LEAPING)
        subprocess.Popen([sys.executable, "-c", DEAF, MARK], pass_fds=[lock])
        subprocess.Popen(["setsid", "sleep", str(LIFE)], env={{**os.environ, "MARK": MARK}}, pass_fds=[lock])
    def stop(self): pass
    @on("crash")
    def crash(self): os.kill(os.getpid(), signal.SIGSEGV)
    @on("leave")
    def leave(self): os._exit(0)
    @expose
    def zygote(self): os.kill(os.getppid(), 9); time.sleep(LIFE)
"""


class Family:
    """Four processes of a plugin: a daemon, one that leaps, one that blocks every signal, one in its own session."""

    def __init__(self, plugins: Plugins, name: str, **tables: object) -> None:
        self._mark = plugins.folder.parent / f"family-{uuid.uuid4().hex}"
        plugins.add(name, SOURCE.format(life=LIFE, mark=str(self._mark)), **tables)

    def wait_until_whole(self) -> None:
        eventually(lambda: len(self.members()) >= 3, "the family is there")  # a look often misses the one that leaps

    def members(self) -> list[int]:
        """Those that a look at the processes finds."""
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and self._is_member(Path("/proc", pid))]

    def is_extinct(self, generation: int | None = None) -> bool:
        """Whether nothing is left of this generation's, or of any: the plugin itself, too."""
        pattern = f"{self._mark.name}.{generation or '*'}"
        return not any(_is_locked(path) for path in self._mark.parent.glob(pattern))

    def kill(self) -> None:
        """For a test in which it may stay."""
        while not self.is_extinct():
            for pid in self.members():
                os.kill(pid, 9)

    def _is_member(self, process: Path) -> bool:
        mark = str(self._mark).encode()
        try:
            return mark in (process / "cmdline").read_bytes().split(b"\0") or (
                b"MARK=" + mark in (process / "environ").read_bytes().split(b"\0")
            )
        except OSError:
            return False


def _is_locked(path: Path) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
