"""The names that the auditor looks for and their meanings, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

# Findings by name. A name stands for everything below it; the longest match counts, and "" means harmless.


def _all(id: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), id)


MENTIONS: Mapping[str, str] = {
    **_all("MK0810", "builtins.eval builtins.exec builtins.compile code.InteractiveInterpreter"),
    **_all("MK0810", "code.InteractiveConsole code.interact"),
    **_all("MK0810", "runpy types.CodeType types.FunctionType timeit.timeit timeit.repeat timeit.Timer cProfile.run"),
    **_all("MK0813", "sys.modules sys._getframe sys._current_frames gc.get_objects gc.get_referrers gc.get_referents"),
    **_all("MK0813", "inspect.currentframe inspect.stack sys.meta_path sys.path_hooks importlib.reload"),
    **_all("MK0813", "sys.addaudithook importlib.machinery"),
    **_all("MK0815", "pickle dill cloudpickle shelve marshal jsonpickle yaml.load yaml.unsafe_load yaml.full_load"),
    **_all("MK0815", "copyreg joblib.load torch.load"),
    **_all("", "pickle.dumps pickle.dump pickle.PicklingError pickle.PickleError pickle.HIGHEST_PROTOCOL"),
    **_all("", "marshal.dumps marshal.dump"),
    **_all("MK0817", "ctypes cffi mmap"),
    **_all("MK0818", "os.system os.popen os.fork os.forkpty os.posix_spawn os.posix_spawnp pty.fork pty.spawn"),
    **_all("MK0818", "os.execl os.execle os.execlp os.execlpe os.execv os.execve os.execvp os.execvpe"),
    **_all("MK0818", "os.spawnl os.spawnle os.spawnlp os.spawnlpe os.spawnv os.spawnve os.spawnvp os.spawnvpe"),
    **_all("MK0818", "subprocess multiprocessing concurrent.futures.ProcessPoolExecutor commands webbrowser"),
    **_all("MK0818", "asyncio.create_subprocess_exec asyncio.create_subprocess_shell asyncio.subprocess"),
    **_all("", "subprocess.PIPE subprocess.DEVNULL subprocess.STDOUT subprocess.CalledProcessError"),
    **_all("", "subprocess.TimeoutExpired subprocess.SubprocessError subprocess.CompletedProcess"),
    **_all("", "multiprocessing.shared_memory multiprocessing.cpu_count"),
    **_all("MK0819", "os.kill os.killpg signal.pthread_kill signal.raise_signal signal.pidfd_send_signal"),
    **_all("MK0820", "signal.signal signal.setitimer signal.alarm signal.set_wakeup_fd signal.sigaction"),
    **_all("MK0820", "signal.pthread_sigmask"),
    **_all("MK0821", "threading.Thread threading.Timer _thread concurrent.futures.ThreadPoolExecutor"),
    **_all("MK0822", "os._exit os.abort"),
    **_all("MK0823", "sys.exit builtins.exit builtins.quit builtins.SystemExit"),
    **_all("MK0824", "atexit faulthandler sys.settrace sys.setprofile sys.excepthook sys.unraisablehook"),
    **_all("MK0824", "sys.setrecursionlimit sys.setswitchinterval sys.displayhook threading.settrace"),
    **_all("MK0824", "threading.setprofile"),
    **_all("MK0824", "threading.excepthook os.chdir os.umask locale.setlocale socket.setdefaulttimeout gc.disable"),
    **_all("MK0824", "warnings.showwarning sys.setdlopenflags os.setuid os.setgid os.chroot os.nice"),
    **_all("MK0824", "resource.setrlimit"),
    **_all("MK0830", "socket socketserver urllib.request http.client http.server requests httpx aiohttp urllib3 grpc"),
    **_all("MK0830", "smtplib ftplib imaplib poplib telnetlib nntplib xmlrpc.client xmlrpc.server websockets paramiko"),
    **_all("MK0830", "asyncio.open_connection asyncio.start_server asyncio.open_unix_connection"),
    **_all("", "socket.error socket.gaierror socket.timeout socket.herror socket.AF_INET socket.SOCK_STREAM"),
    **_all("", "socket.AF_INET6 socket.AF_UNIX socket.SOCK_DGRAM requests.exceptions requests.RequestException"),
    **_all("", "httpx.HTTPError httpx.HTTPStatusError httpx.Response requests.Response aiohttp.ClientError"),
}  # fmt: skip

# Modules and the names under which the tables list them.
ALIASES: Mapping[str, str] = {
    "posix": "os", "_posixsubprocess": "subprocess", "_socket": "socket", "_ctypes": "ctypes", "_pickle": "pickle",
    "_io": "io", "_signal": "signal", "_multiprocessing": "multiprocessing", "__builtin__": "builtins",
}  # fmt: skip
# Modules that are also attributes of others: ``shutil.os.system``.
PASSED_THROUGH = frozenset({"os", "sys", "subprocess", "builtins", "socket", "ctypes", "signal", "importlib"})

IMPORTERS = frozenset({
    "importlib.import_module", "importlib.__import__", "builtins.__import__", "pkgutil.resolve_name",
    "importlib._bootstrap._gcd_import",
})  # fmt: skip
GETTERS = frozenset({"builtins.getattr", "builtins.setattr", "builtins.hasattr", "builtins.delattr"})

# Attributes that lead from any object to Python's internals.
INTERNALS = frozenset({
    "__subclasses__", "__globals__", "__builtins__", "__mro__", "__bases__", "__base__", "__code__", "__closure__",
    "__loader__", "f_globals", "f_locals", "f_back", "f_builtins", "gi_frame", "cr_frame", "ag_frame", "tb_frame",
    "gi_code", "cr_code", "co_code", "__self__", "__getattribute__", "__reduce_ex__", "mro",
})  # fmt: skip

# Uses that need a permission


Kind = Literal["pattern", "path", "url", "host", "pair", "variable"]


class PermissionNeed(NamedTuple):
    """A permission that a call needs, and the argument with its value."""

    permission: str
    kind: Kind
    position: int = 0
    keyword: str = ""
    # Default port, if the call names none.
    port: int = 0


def _each(names: str, *asks: PermissionNeed) -> dict[str, tuple[PermissionNeed, ...]]:
    return dict.fromkeys(names.split(), asks)


_DECORATORS = "microkernel.{0} microkernel.sdk.{0} microkernel.sdk.decorators.{0}"
_READ, _WRITE = PermissionNeed("fs.read", "path"), PermissionNeed("fs.write", "path")
_INTO = PermissionNeed("fs.write", "path", 1, "dst")
_URL = PermissionNeed("net", "url", 0, "url")


# ``@api`` is the ``PluginAPI``, whatever name a plugin gives it.
CALLS: Mapping[str, tuple[PermissionNeed, ...]] = {
    **_each("@api.emit @api.ask", PermissionNeed("emit", "pattern", 0, "topic")),
    **_each(f"@api.on {_DECORATORS.format('on')}", PermissionNeed("on", "pattern", 0, "topic")),
    **_each("@api.call @api.acall", PermissionNeed("call", "pattern", 0, "target")),
    **_each("@api.get_data", PermissionNeed("data.read", "pattern", 0, "key")),
    **_each("@api.watch_data", PermissionNeed("data.read", "pattern", 0, "pattern")),
    **_each("@api.set_data @api.delete_data", PermissionNeed("data.write", "pattern", 0, "key")),
    **_each("os.getenv os.getenvb os.putenv os.unsetenv", PermissionNeed("env", "variable", 0, "key")),
    **_each("os.environ.get os.environ.pop os.environ.setdefault", PermissionNeed("env", "variable", 0, "key")),
    **_each("os.listdir os.scandir os.walk os.stat os.lstat os.readlink os.fwalk os.getxattr", _READ),
    **_each("glob.glob glob.iglob linecache.getlines fileinput.input os.path.getsize os.path.getmtime", _READ),
    **_each("os.remove os.unlink os.mkdir os.makedirs os.rmdir os.removedirs os.chmod os.chown os.truncate", _WRITE),
    **_each("os.utime os.mkfifo os.mknod shutil.rmtree shutil.chown logging.FileHandler", _WRITE),
    **_each("os.rename os.replace os.renames shutil.move", _WRITE, _INTO),
    **_each("os.link shutil.copy shutil.copy2 shutil.copyfile shutil.copytree", _READ, _INTO),
    **_each("os.symlink", _INTO),
    **_each("sqlite3.connect shelve.open dbm.open", _WRITE),
    **_each("urllib.request.urlopen urllib.request.Request urllib.request.urlretrieve xmlrpc.client.ServerProxy", _URL),
    **_each("websockets.connect aiohttp.request.get", _URL),
    **{f"{lib}.{verb}": (_URL,) for lib in ("requests", "httpx") for verb in
       ("get", "post", "put", "patch", "delete", "head", "options", "stream.get")},
    **_each("requests.request httpx.request httpx.stream aiohttp.request", PermissionNeed("net", "url", 1, "url")),
    **_each("socket.create_connection", PermissionNeed("net", "pair", 0, "address")),
    **_each("asyncio.open_connection", PermissionNeed("net", "host", 0, "host")),
    **_each("http.client.HTTPConnection", PermissionNeed("net", "host", 0, "host", 80)),
    **_each("http.client.HTTPSConnection", PermissionNeed("net", "host", 0, "host", 443)),
    **_each("smtplib.SMTP", PermissionNeed("net", "host", 0, "host", 25)),
    **_each("smtplib.SMTP_SSL", PermissionNeed("net", "host", 0, "host", 465)),
    **_each("ftplib.FTP ftplib.FTP_TLS", PermissionNeed("net", "host", 0, "host", 21)),
    **_each("imaplib.IMAP4", PermissionNeed("net", "host", 0, "host", 143)),
    **_each("imaplib.IMAP4_SSL", PermissionNeed("net", "host", 0, "host", 993)),
    **_each("poplib.POP3", PermissionNeed("net", "host", 0, "host", 110)),
    **_each("poplib.POP3_SSL", PermissionNeed("net", "host", 0, "host", 995)),
}  # fmt: skip

# Functions that open a path, and the position of their mode.
OPENERS: Mapping[str, int] = {
    "builtins.open": 1, "io.open": 1, "codecs.open": 1, "gzip.open": 1, "bz2.open": 1, "lzma.open": 1,
    "os.open": 1, "zipfile.ZipFile": 1, "tarfile.open": 1, "io.FileIO": 1, "wave.open": 1, "tokenize.open": -1,
}  # fmt: skip
PATHS = frozenset({"pathlib.Path", "pathlib.PosixPath", "pathlib.PurePath", "pathlib.PurePosixPath"})
PATH_READS = frozenset({"read_text", "read_bytes", "iterdir", "glob", "rglob", "stat", "lstat", "readlink", "walk"})
PATH_WRITES = frozenset({
    "write_text", "write_bytes", "mkdir", "unlink", "touch", "rename", "replace", "rmdir", "chmod", "symlink_to",
    "hardlink_to",
})  # fmt: skip
# Methods that only paths have.
ONLY_OF_PATHS = frozenset({"read_text", "read_bytes", "write_text", "write_bytes", "symlink_to", "hardlink_to"})
URL_VERBS = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "ws_connect", "request", "stream"})
PORTS: Mapping[str, int] = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

# The finding for a use outside of the plugin API. A use of the network is reported by the name that is used.
USED: Mapping[str, str] = {"fs.read": "MK0831", "fs.write": "MK0832", "env": "MK0833"}

# Texts

NATIVE = (".so", ".pyd", ".dll", ".dylib", ".pyc", ".pyo", ".a", ".o", ".egg", ".whl", ".pyz")
NATIVE_MAGIC = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\x00asm")

SECRETS: Mapping[str, re.Pattern[str]] = {
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b"),
    "a GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,255}"),
    "a Slack token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}"),
    "a Stripe key": re.compile(r"\b[rs]k_live_[A-Za-z0-9]{20,255}"),
    "a Google key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "a PyPI token": re.compile(r"\bpypi-[A-Za-z0-9_-]{50,255}"),
    "an npm token": re.compile(r"\bnpm_[A-Za-z0-9]{36}\b"),
    "an API key": re.compile(r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,255}"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]{2,9} ){0,2}PRIVATE KEY"),
    "a signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,999}\.eyJ[A-Za-z0-9_-]{10,999}\.[A-Za-z0-9_-]{10,999}"),
}
SECRET_NAMES = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|pwd|secret|token|api_?key|access_?key|private_?key|credentials?)(?:$|_)",
    re.IGNORECASE,
)
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
# Letters of other scripts that look like ASCII letters.
LOOKALIKES: Mapping[int, int] = str.maketrans(
    "аеорсухіјѕԁһӏԛԝвкмнтАВЕЅІЈКМНОРСТУХοαενρτυιΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijsdhlqwbkmhtABESIJKMHOPCTYXoaevptuiABEZHIKMNOPTYX",
)
