"""Run all attempts at one level as one user, in a separate process, because a change of user is irreversible."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import distribution, version
from importlib.util import find_spec
from pathlib import Path

from microkernel.errors import IsolationUnavailable
from tests.guest import lend_guest
from tests.security.redteam.model import Outcome

ROOT = Path(__file__).resolve().parents[3]
_NOBODY = 65534
_NEEDED = ("msgspec", "packaging", "wasmtime")
_OURS = (
    "tests/__init__.py", "tests/guest.py", "tests/harness", "tests/security/__init__.py", "tests/security/redteam",
    "tests/security/attacks/__init__.py", "tests/security/attacks/support.py",
)  # fmt: skip
_LONGEST = 280.0
_NEW_MOUNTS, _NEW_NAMES, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_PRIVATE = 0x4000 | 0x40000


class Unavailable(Exception):
    """This cannot be run here; says why."""


def run(level: str, user: str, names: Iterable[str] = ()) -> list[Outcome]:
    """Run attempts, all of them or those of these names. Raises Unavailable."""
    with tempfile.TemporaryDirectory(prefix="redteam-") as name:
        base = Path(name)
        base.chmod(0o755)
        home = base / "home"
        home.mkdir()
        python, path, options = _as_root(user) if user == "root" else _as_user(base, home)
        start = {"environment": secrets.token_hex(16), "argument": secrets.token_hex(16)}
        if level == "wasm":
            try:
                lend_guest(home / "cache", home.stat().st_uid)
            except IsolationUnavailable as error:
                raise Unavailable(str(error)) from None
        command = [
            python,
            "-m",
            "tests.security.redteam.campaign",
            level,
            str(home),
            f"--token={start['argument']}",
            *names,
        ]
        variables = {
            "PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8",
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONPATH": path, "MK_SECRET": start["environment"], "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        done = subprocess.run(
            command, env=variables, cwd=home, capture_output=True, text=True, timeout=_LONGEST, check=False, **options
        )
        return _read(home / "outcomes.json", done)


def _read(path: Path, done: subprocess.CompletedProcess[str]) -> list[Outcome]:
    if not path.exists():
        raise RuntimeError(f"the campaign ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-8000:]}")
    found = json.loads(path.read_text())
    if isinstance(found, str):
        raise Unavailable(found)
    return [Outcome(**each) for each in found]


def _as_root(user: str) -> tuple[str, str, dict[str, object]]:
    if os.geteuid() != 0:
        raise Unavailable("the tests do not run as root")
    return sys.executable, os.pathsep.join([str(ROOT / "src"), str(ROOT)]), {}


def _as_user(base: Path, home: Path) -> tuple[str, str, dict[str, object]]:
    """Return the interpreter, module path and process options of an ordinary user.

    Root runs as ``nobody``, and all needed files are copied, because that user may not even read root's folders.
    """
    if os.geteuid() != 0:
        return sys.executable, os.pathsep.join([str(ROOT / "src"), str(ROOT)]), {}
    python = interpreter()
    if python is None:
        raise Unavailable("no interpreter of this version that an ordinary user may run")
    library = base / "library"
    _copy(library)
    os.chown(home, _NOBODY, _NOBODY)
    return python, str(library), {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}


def _copy(library: Path) -> None:
    found = {name: spec for name in _NEEDED if (spec := find_spec(name))}
    places = {name: Path(str(spec.origin)).parent for name, spec in found.items()}
    if "wasmtime" in found:  # a guest is for one engine version, which its metadata names
        known_as = f"wasmtime-{version('wasmtime')}.dist-info"
        places[known_as] = Path(str(distribution("wasmtime").locate_file(known_as)))
    places["microkernel"] = ROOT / "src" / "microkernel"
    places |= {name: ROOT / name for name in _OURS}
    for name, place in places.items():
        if place.is_dir():
            shutil.copytree(place, library / name)
        elif place.exists():
            (library / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(place, library / name)
    for folder, _, files in os.walk(library):
        os.chmod(folder, 0o755)
        for file in files:
            os.chmod(Path(folder, file), 0o644)


@cache
def interpreter() -> str | None:
    """One that nobody may run, and that can load the same extensions."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = (shutil.which(f"python{version}", path=path) for path in (os.defpath, os.environ.get("PATH")))
    for candidate in (os.path.realpath(sys.executable), *found):
        if candidate and _may_run(candidate):
            return candidate
    return None


def _may_run(python: str) -> bool:
    try:
        return not subprocess.run(
            [python, "-I", "-c", ""], user=_NOBODY, group=_NOBODY, extra_groups=[], cwd="/", check=False
        ).returncode
    except OSError:
        return False


# In the separate process


def main() -> None:
    from tests.security.redteam.arena import Arena
    from tests.security.redteam.attempts import ALL

    level, home, token, *names = sys.argv[1:]
    if os.geteuid() == 0:
        _leave_the_machine_alone()
    chosen = [each for each in ALL if not names or each.name in names]
    start = {"environment": os.environ["MK_SECRET"], "argument": token.partition("=")[2]}
    from microkernel.errors import IsolationUnavailable

    gc.collect()
    gc.freeze()  # what is there now is no plugin's: the audit of each attempt at `thread` need not look at it
    result: object
    try:
        with Arena(Path(home) / "arena", level, start) as arena:
            result = [asdict(arena.run(each)) for each in chosen]
    except IsolationUnavailable as error:
        result = str(error)
    Path(home, "outcomes.json").write_text(json.dumps(result))
    os._exit(0)  # threads that an attempt left would be waited for


def _leave_the_machine_alone() -> None:
    """What an attempt of root's mounts, names and shares is this process's own, and gone with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with suppress(OSError):
        if libc.unshare(_NEW_MOUNTS | _NEW_NAMES | _NEW_IPC) == 0:
            libc.mount(b"none", b"/", None, _PRIVATE, None)


if __name__ == "__main__":
    main()
