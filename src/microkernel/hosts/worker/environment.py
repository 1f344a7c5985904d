"""Which environment variables of the program reach a zygote and its workers.

The whole list of what a worker inherits is in ``worker/inherited_state.py``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from microkernel.kernel.manifest import Level

_OF_ONE_PROCESS = re.compile(
    r"NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*|CREDENTIALS_DIRECTORY|FDSTORE|MAINPID|SYSTEMD_EXEC_PID|JOURNAL_STREAM"
    r"|MEMORY_PRESSURE_.*"
)
_READ_AT_EXEC = re.compile(r"LANG|LC_.*|LOCPATH|LD_LIBRARY_PATH|PYTHONHOME|PYTHONPLATLIBDIR")
# The loader, the C library, allocators and sanitizers read these before main. They can make a process load code, or
# print what it does, so a confined worker gets none of them.
_READ_BEFORE_MAIN = re.compile(r"LD_.*|GLIBC_TUNABLES|(MALLOC|TCMALLOC|MIMALLOC|SCUDO)_.*|[A-Z]*SAN_OPTIONS")
_OF_PYTHON = ("PYTHONHOME", "PYTHONPLATLIBDIR")
# For the zygote only; a worker gets the values at the time it starts.
_PASSED_ON = ("PATH", "HOME", "TZ", "TMPDIR", "MK_PURE")
STARTED_BY_KERNEL = "MICROKERNEL_ZYGOTE"


def is_withheld(name: str) -> bool:
    """Return whether a variable addresses one process only, as systemd's do: its socket, watchdog, descriptors,
    credentials.

    No worker gets such a variable, granted or not.
    """
    return _OF_ONE_PROCESS.fullmatch(name) is not None


def visible(names: Iterable[str]) -> list[str]:
    """Return those of these variables that are set and that a worker may get."""
    return [name for name in names if name in os.environ and not is_withheld(name)]


def read_at_exec(level: Level) -> dict[str, str]:
    """Return the variables that must be set when the zygote is executed, because nothing reads them later."""
    return {name: value for name, value in os.environ.items() if _is_read_at_exec(name, level)}


def _is_read_at_exec(name: str, level: Level) -> bool:
    if name in _OF_PYTHON and sys.flags.ignore_environment:
        return False
    return bool(_READ_AT_EXEC.fullmatch(name) or (level == "process" and _READ_BEFORE_MAIN.fullmatch(name)))


def zygote_environment(variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of a zygote with these variables that are read at exec."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**kept, **variables, STARTED_BY_KERNEL: str(os.getpid())}


def process_identity() -> tuple[object, ...]:
    """Return the user and groups of this process: a worker belongs to the program's user at the time the plugin
    starts."""
    return os.getresuid(), os.getresgid(), tuple(os.getgroups())


def interpreter_options(variables: dict[str, str]) -> list[str]:
    """Return options for the zygote's interpreter: isolated, with this interpreter's home, encoding and bytecode
    settings.

    Warnings, optimisation and development mode are not passed on.
    """
    isolated = "-sP" if any(name in variables for name in _OF_PYTHON) else "-I"
    options = [isolated, "-X", f"utf8={sys.flags.utf8_mode}"]
    if sys.dont_write_bytecode:
        options.append("-B")
    if sys.pycache_prefix:
        options += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return options


def interpreter_defect() -> str:
    """Return why ``sys.executable`` is not an interpreter but this program again; empty if it is one.

    A frozen program that does not show that it is frozen is detected by the copy of it that starts.
    """
    if getattr(sys, "frozen", False) or "__compiled__" in vars(sys.modules["__main__"]):
        return "this program is frozen, and its executable is not a Python interpreter"
    if not sys.executable:
        return "sys.executable is empty: this program does not know its Python interpreter"
    if STARTED_BY_KERNEL in os.environ:
        return "this program was started as the interpreter of its own plugins"
    return ""
