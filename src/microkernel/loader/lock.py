"""``microkernel.lock``: the approvals of the operator, as text to be read and compared.

Reading and writing the text is pure; ``LockFile`` is the file. It is replaced atomically, and a file that cannot be
read is never replaced.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from microkernel.errors import ConfigError
from microkernel.kernel.manifest import Approval, Permissions
from microkernel.loader import lock_guard, schema, shared_tables
from microkernel.loader.display import display_path
from microkernel.loader.files import parse_toml, read_text
from microkernel.loader.schema import Schema, Where
from microkernel.loader.shared_tables import PERMISSIONS

FILE = "microkernel.lock"
FORMAT = 1
_HEAD = """\
# What the operator has approved, by plugin: `mk approve NAME` writes it. Keep it with the configuration; whoever can
# change it decides what plugins may do.
"""
# Reduced by the umask. Only the owner may ever write the file.
_MODE = 0o644
_ENTRY_POINT = "entry-point:"
_ATTEMPTS = 20
_BARE = re.compile(r"[A-Za-z0-9_-]+")

# The permissions of a manifest. Limits are separate tables in a manifest, but a list of texts here.
_APPROVED: Schema = {**PERMISSIONS, "limits": shared_tables.texts}


def _approved(value: Any, where: Where) -> Permissions:
    return shared_tables.permissions(value, where, _APPROVED)


_APPROVAL: Schema = {
    "version": schema.text,
    "digest": schema.word,
    "permissions": _approved,
    "files": schema.tables(schema.word),
    "path": schema.word,
}
_LOCK: Schema = {"format": schema.integer(1), "plugin": schema.tables(schema.table(_APPROVAL))}

ApprovalPolicy = Mapping[str, Approval]


def parse(text: str, path: str) -> dict[str, Approval]:
    """Parse the text of a lock file. Raises ConfigError MK0414 with the reason."""
    try:
        toml = schema.read_table(parse_toml(text, path, ConfigError), _LOCK, Where(path, ConfigError))
    except ConfigError as error:
        raise broken(path, error.text.removeprefix(f"{display_path(path)}: ")) from None
    if toml.get("format") != FORMAT:
        raise broken(path, f"its format is {toml.get('format', 'not given')}, and this microkernel writes {FORMAT}")
    return {name: _approval(name, _placed(each, path), path) for name, each in toml.get("plugin", {}).items()}


def _placed(table: dict[str, Any], lock: str) -> dict[str, Any]:
    """Return an approval with the absolute path of its plugin. In the file, paths below the folder of the lock are
    relative, so that both can be moved together."""
    place = table.get("path", "")
    if not place or place.startswith(_ENTRY_POINT):
        return table
    return {**table, "path": os.path.normpath(os.path.join(_folder(lock), place))}


def _folder(lock: str) -> str:
    return os.path.realpath(os.path.dirname(lock))


def _relative(place: str, lock: str) -> str:
    below = os.path.join(_folder(lock), "")
    return place.removeprefix(below) if lock else place


def _approval(name: str, table: dict[str, Any], path: str) -> Approval:
    absent = [key for key in ("version", "digest", "permissions") if key not in table]
    if absent:
        raise broken(path, f"plugin.{name}: {absent[0]} is missing")
    return Approval(**table)


def render(approvals: ApprovalPolicy, lock: str = "") -> str:
    """Return the text for approvals. Equal approvals give equal texts, so a diff shows what was approved in between.

    ``lock`` is the path of the file for which the text is made; without it, paths are absolute.
    """
    parts = [f"{_HEAD}format = {FORMAT}\n", *(_plugin(name, approvals[name], lock) for name in sorted(approvals))]
    return "\n".join(parts)


def _plugin(name: str, approval: Approval, lock: str) -> str:
    head = f"[plugin.{_key(name)}]\nversion = {_text(approval.version)}\ndigest = {_text(approval.digest)}\n"
    granted = "".join(_grants(approval.permissions))
    if approval.path:
        head += f"path = {_text(_relative(approval.path, lock))}\n"
    table = f"\n[plugin.{_key(name)}.permissions]\n{granted}"
    files = "".join(f"{_key(file)} = {_text(approval.files[file])}\n" for file in sorted(approval.files))
    return head + table + (f"\n[plugin.{_key(name)}.files]\n{files}" if files else "")


def _grants(permissions: Permissions) -> Iterator[str]:
    for kind in sorted(_APPROVED):
        what = getattr(permissions, kind.replace(".", "_"))
        patterns = ("**",) if what is None else what
        if patterns:
            yield f"{_key(kind)} = [{', '.join(_text(each) for each in sorted(patterns))}]\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    """Return a TOML string. It is like that of JSON, except for DEL and lone surrogates, which UTF-8 cannot
    represent."""
    integer = value.encode("utf-8", "backslashreplace").decode()
    return json.dumps(integer, ensure_ascii=False).replace("\x7f", "\\u007F")


def broken(path: str, reason: str) -> ConfigError:
    return ConfigError("MK0414", path=display_path(path), reason=reason)


class LockFile:
    """A ``ports.Lock`` for any thread. Other kernels may use the same file."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._lock = threading.Lock()
        self._known: tuple[tuple[int, ...], dict[str, Approval]] | None = None

    def read(self) -> ApprovalPolicy:
        """Return the current approvals by plugin; empty without a file. Raises ConfigError MK0414."""
        with self._lock:
            return self._read()

    def keep(self, name: str, approval: Approval) -> None:
        """Record an approval, replacing an earlier one. Raises ConfigError MK0414, in which case nothing was
        changed."""
        with self._lock:
            try:
                with lock_guard.held(self._place()):
                    self._add(name, approval)
                self._known = None
            except TimeoutError:
                reason = f"another program has held its lock for {lock_guard.PATIENCE:g} s, so nothing was written"
                raise broken(self.path, reason) from None
            except OSError as cause:
                raise broken(self.path, f"it cannot be written: {(cause.strerror or str(cause)).lower()}") from None

    def _add(self, name: str, approval: Approval) -> None:
        """Replace the file by one with this approval. If a program without our lock has written to it meanwhile, its
        content is read first."""
        for _ in range(_ATTEMPTS):
            before = self._state()
            text = render({**self._read(), name: approval}, self.path)
            if _replace(self._place(), text, partial(self._is_at, before)):
                return
        raise broken(self.path, "it is written again and again by another program")

    def _is_at(self, state: tuple[int, ...]) -> bool:
        return self._state() == state

    def _state(self) -> tuple[int, ...]:
        """Return a value that identifies the content of the file; None without a file. Raises OSError."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev

    def _place(self) -> str:
        """Return the path to replace. A link is kept, and its target is replaced."""
        return os.path.realpath(self.path)

    def _read(self) -> dict[str, Approval]:
        """Read the file, if it has changed since the last time."""
        try:
            state = self._state()
        except OSError as cause:
            raise broken(self.path, (cause.strerror or str(cause)).lower()) from None
        if not state:
            return {}
        if self._known is None or self._known[0] != state:
            self._known = (state, parse(self._text(), self.path))
        return self._known[1]

    def _text(self) -> str:
        try:
            return read_text(self.path, ConfigError)
        except ConfigError as error:
            raise broken(self.path, error.text.removeprefix(f"{display_path(self.path)}: ")) from None


def _replace(path: str, text: str, may_replace: Callable[[], bool]) -> bool:
    """Replace the file atomically, even if the machine stops in the middle. Returns whether it was replaced."""
    handle, beside = _beside(path)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if may_replace():
            os.replace(beside, path)
            return True
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    os.unlink(beside)
    return False


def _beside(path: str) -> tuple[int, str]:
    """Create a new file in the same folder, writable by its owner and readable as far as the umask allows."""
    name = f"{path}.{os.urandom(8).hex()}"
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), name
