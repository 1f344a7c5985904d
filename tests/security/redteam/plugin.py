"""The source of the plugins that the red team runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from tests.security.attacks.support import manifest

_HEADER = '''
import contextlib, errno, gc, importlib, json, os, signal, stat, struct, sys, threading, time, types
from typing import Any
from microkernel import IPlugin, expose


class Absent:
    """A module that is not there, until an attempt reaches for it."""
    def __init__(self, name): self.name = name
    def __getattr__(self, _): return importlib.import_module(self.name)


for _name in ("array", "ctypes", "fcntl", "mmap", "platform", "resource", "select", "socket", "subprocess"):
    try:
        globals()[_name] = importlib.import_module(_name)
    except ImportError:
        globals()[_name] = Absent(_name)
if sys.platform == "wasi" or isinstance(ctypes, Absent):  # a guest's ctypes has the numbers of C alone
    ctypes = libc = Absent("_ctypes")
else:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
KEPT = []
"""What must live as long as the plugin."""
NUMBERS = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "rt_sigqueueinfo": (129, 138), "tgkill": (234, 131),
    "tkill": (200, 130), "clone": (56, 220), "clone3": (435, 435), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "chroot": (161, 51), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "memfd_create": (319, 279), "add_key": (248, 217), "keyctl": (250, 219), "syslog": (103, 116),
    "personality": (135, 92), "sethostname": (170, 161), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "mlock": (149, 228), "ioprio_set": (251, 30), "execveat": (322, 281), "renameat2": (316, 276), "fsopen": (430, 430),
    "landlock_create_ruleset": (444, 444), "prctl": (157, 167), "setuid": (105, 146), "capset": (126, 91),
    "sched_setattr": (314, 274), "openat2": (437, 437), "fchmod": (91, 52), "utimensat": (280, 88),
    "fchmodat2": (452, 452), "process_madvise": (440, 440), "mknodat": (259, 33), "truncate": (76, 45),
    "quotactl": (179, 60), "open_tree": (428, 428), "pidfd_spawn": (0, 0), "kcmp": (312, 272), "setsid": (112, 157),
    "connect": (42, 203), "socket": (41, 198), "fchownat": (260, 54), "mkdirat": (258, 34), "linkat": (265, 37),
}


def syscall(name, *arguments):
    """By its number, past all of Python's and the C library's own ways."""
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    number = NUMBERS[name][platform.machine() == "aarch64"] if isinstance(name, str) else name
    return checked(libc.syscall(ctypes.c_long(number), *given))


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def ran(status):
    if status:
        raise ChildProcessError(f"it ended with {status}")
    return status


def fill(file, size):
    """As far as the disk is concerned."""
    if hasattr(os, "posix_fallocate"):
        return os.posix_fallocate(file.fileno(), 0, size)
    for _ in range(size >> 20): file.write(bytes(1 << 20))
    file.flush()


def frame(*what):
    """Send messages as the worker's own code would."""
    from microkernel.wire.frames import datagrams
    from microkernel.wire.session import pack
    for part in datagrams(pack(what)): send(part)


def send(data):
    """The way up: a socket, or a guest's own function for it."""
    if sys.platform != "wasi":
        os.write(4, data)
    elif not importlib.import_module("wit_world").send(data.decode("latin-1")):
        raise BrokenPipeError(errno.EPIPE, "nobody is there")


def absent(error):
    """The module and the name in it that were not there."""
    if isinstance(error, AttributeError) and isinstance(error.obj, types.ModuleType):
        return [error.obj.__name__, error.name]
    return [error.name, ""] if isinstance(error, ModuleNotFoundError) else []


class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api

    def start(self): pass

    def stop(self): pass

    @expose
    def attempt(self, facts: dict) -> Any:
        f = types.SimpleNamespace(**facts)
        try:
            return ["told", self.body(f, self.api)]
        except OSError as error:
            return ["fault", errno.errorcode.get(error.errno or 0, type(error).__name__)]
        except Exception as error:
            return ["fault", type(error).__name__, str(error)[:200], *absent(error)]

    def body(self, f, api):
'''


def source(code: str, keys: Mapping[str, Any]) -> str:
    """A plugin whose method ``attempt`` does this."""
    tables = {"supervision": {"restart": "temporary"}, **keys}
    return manifest(**tables) + _HEADER + textwrap.indent(textwrap.dedent(code).strip("\n"), " " * 8) + "\n"


OTHER = '''
"""Another plugin, with things of its own."""
import os, random, secrets, sys, tempfile, uuid
from microkernel import IPlugin, expose

DRAWN = [random.random(), os.urandom(8).hex(), secrets.token_hex(8), str(uuid.uuid4()),
         next(tempfile._get_candidate_names())]

SECRET = "%(secret)s"
address = 0
if sys.platform != "wasi":
    import ctypes
    buffer = ctypes.create_string_buffer(SECRET.encode())
    address = ctypes.addressof(buffer)


class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api

    def start(self):
        self.api.data_dir.mkdir(parents=True, exist_ok=True)
        (self.api.data_dir / "own.txt").write_text(SECRET)
        self.temporary = tempfile.NamedTemporaryFile(mode="w")
        self.temporary.write(SECRET)
        self.temporary.flush()
        self.api.set_data("other.secret", SECRET)

    def stop(self): pass

    @expose
    def facts(self) -> dict:
        self.api.set_data("other.secret", SECRET)  # an attempt before may have changed it
        return {"other_data": str(self.api.data_dir), "other_temporary": self.temporary.name,
                "other_address": address}

    @expose
    def drawn(self) -> list:
        return DRAWN

    @expose
    def hashed(self, text: str) -> int:
        return hash(text)

    @expose
    def news(self) -> None:
        self.api.emit("other.news", secret=SECRET)

    @expose
    def reveal(self) -> str:
        return SECRET

    @expose
    def slowly(self, gate: str) -> str:
        import time
        until = time.monotonic() + 5
        while not os.path.exists(gate) and time.monotonic() < until:
            time.sleep(0.01)
        return "truth"
'''
