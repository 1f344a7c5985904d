"""The audit of a whole plugin: all its files, its manifest, and the proposed permissions."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BufferedReader

from microkernel.errors import KernelError, PluginLoadError
from microkernel.kernel.manifest import Manifest
from microkernel.kernel.ports import PluginCandidate, Snapshot
from microkernel.loader.auditor.findings import Finding, Place, Seen, Use
from microkernel.loader.auditor.proposal import Change, Covers, IsGiven, Table, compare, propose, undeclared
from microkernel.loader.auditor.source import LARGEST, from_json
from microkernel.loader.beneath import Beneath, LinkLeaves, NotRegular, open_regular
from microkernel.loader.discovery import location
from microkernel.loader.display import display_path
from microkernel.loader.files import unforeseen, unreadable
from microkernel.loader.parsers import facts_of, seen_in
from microkernel.loader.shared_tables import PERMISSIONS
from microkernel.loader.snapshot import forbidden_of, plugin_files

# Files per plugin. A plugin with more contains an environment or data.
MOST_FILES = 2000
# Bytes of all files of one plugin, which are in memory at the same time.
MOST_BYTES = 64 << 20


# Findings that mean that a source, or part of it, was not inspected.
_BLIND = frozenset({"MK0801", "MK0802", "MK0804", "MK0805"})


def _nothing(_permission: str, _value: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Report:
    """Results for one plugin. ``error``: its manifest, or one of its files, could not be read."""

    name: str
    path: str
    is_folder: bool
    manifest: Manifest
    findings: Sequence[Finding]
    uses: Sequence[Use]
    proposed: Table
    changes: Sequence[Change]
    files: int
    error: KernelError | None = None


def audit(
    found: PluginCandidate, peers: Sequence[str], homes: Collection[str], covers: Covers, is_public: IsGiven = _nothing
) -> Report:
    """Inspect a plugin. Never raises for its content, which becomes findings or the report's ``error``.

    ``peers`` and ``homes`` are as for ``snapshot``: the names of all plugins and the folders they are in. ``is_public``
    says what every plugin may do.
    """
    try:
        return _audit(found, peers, homes, covers, is_public)
    except PluginLoadError as error:
        return _unread(found, error)
    except FileNotFoundError:
        return _unread(found, PluginLoadError("MK0101", path=display_path(found.path)))
    except Exception as mistake:  # caused by its content; the other plugins are inspected
        return _unread(found, unforeseen(found.path, mistake, PluginLoadError))


def _unread(found: PluginCandidate, error: PluginLoadError) -> Report:
    return Report(found.name, found.path, False, found.manifest, (), (), {}, (), 0, error)


def _audit(
    found: PluginCandidate, peers: Sequence[str], homes: Collection[str], covers: Covers, is_public: IsGiven
) -> Report:
    place, entry = location(found.path)
    files, left_out = _files(place)
    read, unread = _read_all(place, files)
    os.path.abspath(place)  # fails if the working folder no longer exists
    forbidden = _forbidden(found, place, entry, read, set(peers), homes)
    seen = [*left_out, *unread]
    for file, data in read.items():
        seen += _look(os.path.join(place, file) if file else place, data, found.name, forbidden)
    own = os.path.abspath(place)

    def is_given(permission: str, value: str) -> bool:
        return _is_own(own, permission, value) or is_public(permission, value)

    return _report(found, bool(entry), seen, covers, len(read), is_given)


def _is_own(place: str, permission: str, value: str) -> bool:
    """Return whether a plugin may read a path because it is its own file or in its own folder.

    A relative path is relative to its working folder, and ``~`` is its home: at the levels that enforce grants, both
    are its data folder.
    """
    if permission in ("fs.read", "fs.write") and not value.startswith("/"):
        return True
    return permission == "fs.read" and (value == place or value.startswith(f"{place}/"))


def _report(
    found: PluginCandidate, is_folder: bool, seen: list[Seen], covers: Covers, files: int, is_given: IsGiven
) -> Report:
    uses = [each for each in seen if isinstance(each, Use)]
    findings = [each for each in seen if isinstance(each, Finding)]
    declared, proposed = found.manifest.permissions, propose(uses, found.name, covers, is_given)
    if declared is not None:
        findings += undeclared(uses, found.name, declared, covers, is_given)
    findings.sort(key=lambda each: (each.place.file, each.place.line, each.place.column, each.id))
    changes = compare(declared, proposed, covers, _unresolved(findings)) if declared is not None else _all_new(proposed)
    return Report(
        found.name, found.path, is_folder, found.manifest, findings, uses, proposed, changes, files, _error(found)
    )


def _unresolved(findings: Sequence[Finding]) -> Collection[str]:
    """Return the permissions with a use that is not fully known; all of them if something could not be inspected."""
    if any(finding.id in _BLIND for finding in findings):
        return PERMISSIONS
    return {str(finding.fields["permission"]) for finding in findings if finding.id in ("MK0834", "MK0836")}


def _error(found: PluginCandidate) -> KernelError | None:
    """Return the report's error. A source that is not text is already a finding."""
    return None if found.error is not None and found.error.id in ("MK0104", "MK0107") else found.error


def _all_new(proposed: Table) -> list[Change]:
    return [Change("+", key, value) for key, values in proposed.items() for value in values]


# Files


def _files(place: str) -> tuple[list[str], list[Seen]]:
    """Return the files to inspect, and those that are skipped; "" is the place itself if it is a file."""
    if not os.path.isdir(place):
        return [""], []
    files: list[str] = []
    environments: set[str] = set()
    for file in _listed(place):
        if os.path.basename(file) == "pyvenv.cfg" and "/" in file:
            environments.add(os.path.dirname(file) + "/")
        elif len(files) < MOST_FILES and not file.startswith((*environments, ".git/")):
            files.append(file)
    whole = Place(display_path(place))
    reasons = [f"{display_path(os.path.join(place, each[:-1]))} is an environment" for each in sorted(environments)]
    reasons += [f"more than {MOST_FILES} files"] if len(files) == MOST_FILES else []
    kept = [file for file in files if not file.startswith(tuple(environments))] if environments else files
    return kept, [Finding(whole, "MK0804", {"reason": reason}) for reason in reasons]


def _listed(place: str) -> Iterator[str]:
    try:
        with Beneath(place) as tree:
            yield from plugin_files(tree)
    except OSError as cause:
        raise unreadable(cause.filename or place, cause, PluginLoadError) from None


def _read_all(place: str, files: Sequence[str]) -> tuple[dict[str, bytes], list[Seen]]:
    """Read the files, and return those that are skipped. Sources come first, because they matter most."""
    if files == [""]:
        return {"": _read(place, partial(open_regular, place))}, []
    read: dict[str, bytes] = {}
    left: list[Seen] = []
    size = 0
    with Beneath(place) as tree:
        for number, file in enumerate(sorted(files, key=lambda file: not file.endswith(".py"))):
            if size > MOST_BYTES:
                reason = f"more than {MOST_BYTES >> 20} MiB in all: {len(files) - number} files are left out"
                return read, [*left, Finding(Place(display_path(place)), "MK0804", {"reason": reason})]
            path = os.path.join(place, file)
            try:
                read[file] = _read(path, partial(tree.open, file))
            except LinkLeaves as link:
                left.append(Finding(Place(display_path(path)), "MK0804", {"reason": str(link.strerror)}))
            size += len(read.get(file, b""))
    return read, left


def _read(path: str, opened: Callable[[], BufferedReader]) -> bytes:
    """Read the beginning of a file, a little more than is inspected; empty for a pipe or a link that leads nowhere.
    Raises LinkLeaves."""
    try:
        with opened() as file:
            return file.read(LARGEST + 1)
    except (FileNotFoundError, NotRegular, IsADirectoryError):
        return b""
    except LinkLeaves:
        raise
    except (OSError, ValueError) as cause:
        raise unreadable(path, cause, PluginLoadError) from None


def _look(path: str, data: bytes, name: str, forbidden: Collection[str]) -> list[Seen]:
    """Inspect one file. Raises PluginLoadError MK0145."""
    return seen_in(data, path, name, forbidden, from_json)


# Other plugins


def _forbidden(
    found: PluginCandidate, place: str, entry: str, read: dict[str, bytes], peers: set[str], homes: Collection[str]
) -> set[str]:
    """Return the plugins that it must not import, by the loader's rule. If it is inspected alone, its neighbours are
    its peers."""
    sources = {file or os.path.basename(place): data for file, data in read.items() if (file or place).endswith(".py")}
    root = place if entry else os.path.dirname(place)
    taken = Snapshot(root, entry or os.path.basename(place), "__init__.py" in sources, sources, "")
    around = os.path.dirname(os.path.abspath(place))
    named = {each for file, data in sources.items() for each in _imported(data, os.path.join(root, file))}
    beside = {each for each in named - peers if _is_there(around, each)}
    return forbidden_of(found, taken, (peers - {found.name}) | beside, homes)


def _imported(data: bytes, path: str) -> Collection[str]:
    """Return the imported modules; empty if the file is not source or is too large."""
    try:
        return facts_of(data, path).imports if len(data) <= LARGEST else ()
    except PluginLoadError as error:
        if error.id == "MK0145":
            raise
        return ()


def _is_there(folder: str, name: str) -> bool:
    path = os.path.join(folder, name)
    return os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py"))


def places_of(found: Sequence[PluginCandidate]) -> Iterator[str]:
    """Return the folders that plugins are in."""
    yield from (os.path.dirname(os.path.abspath(each.path)) for each in found if os.path.lexists(each.path))
