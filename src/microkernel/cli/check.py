"""`mk check`: print the findings of the auditor, for people or as JSON.

Exit codes: 0 no finding at the severity of ``--fail-on`` or above; 1 at least one; 2 a plugin could not be read, or
there is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from microkernel.cli.output import Output
from microkernel.hosts.confined.system_paths import READABLE, WRITABLE
from microkernel.hosts.inspector_process import Inspector
from microkernel.kernel.admission.limit_bounds import raised
from microkernel.loader import discover
from microkernel.loader.auditor import SEVERITIES, Finding, Report, Severity, Table, audit, places_of
from microkernel.loader.parsers import parsing_with
from microkernel.plugins.console import view
from microkernel.plugins.console.translator import plain
from microkernel.wire.topics import covers

# Findings for files that could not be read.
_UNREAD = frozenset({"MK0801", "MK0802"})
_IN_FILE = ("# /// script", "# [tool.microkernel.permissions]", "# ///")


def check(places: Sequence[str], fail_on: Severity, output: Output) -> int:
    """Inspect the plugins at these places and print the findings. Returns the exit code."""
    with closing(Inspector()) as inspector, parsing_with(inspector):
        found = discover(places)
        homes = set(places_of(found))
        reports = [audit(each, [other.name for other in found], homes, covers, is_public) for each in found]
    output.show(_page(reports, output), _data(reports, output))
    for report in reports:
        if report.error is not None and not output.as_json:
            output.error(report.error)
    return _code(reports, fail_on)


def is_public(permission: str, value: str) -> bool:
    """Return whether every plugin may do this, even at the confined levels."""
    if permission == "env":
        return value in _VARIABLES
    paths = {"fs.read": (*READABLE, *WRITABLE), "fs.write": WRITABLE}.get(permission, ())
    return any(value == path or value.startswith(f"{path}/") for path in paths)


_VARIABLES = frozenset({"PATH", "LANG", "TZ", "TMPDIR", "HOME", "USER", "LOGNAME"})


def _code(reports: Sequence[Report], fail_on: Severity) -> int:
    if not reports or any(report.error is not None for report in reports):
        return 2
    fatal = SEVERITIES[SEVERITIES.index(fail_on) :]
    return int(any(finding.severity in fatal for report in reports for finding in report.findings))


# For people


def _page(reports: Sequence[Report], output: Output) -> Iterator[RenderableType]:
    for report in reports:
        yield from (_line(finding, output) for finding in report.findings)
    for report in reports:
        if report.error is None and not _is_unread(report):
            yield from _permissions(report, output)
    if not reports:
        yield Text(output.translator.word("console.none"))
    yield Text(output.translator.word("check.counts", **_counts(reports)))
    yield Text(output.translator.word("check.linter"))


def _line(finding: Finding, output: Output) -> Text:
    place = finding.place
    where = f"{place.file}:{place.line}" if place.line else place.file
    return view.line(finding.severity, plain(where), finding.id, output.catalog.text(finding.id, finding.fields))


def _is_unread(report: Report) -> bool:
    """Return whether nothing could be read. Then there is no proposal."""
    return not report.uses and any(finding.id in _UNREAD for finding in report.findings)


def _permissions(report: Report, output: Output) -> Iterator[RenderableType]:
    word = output.translator.word
    yield Text(word("check.permissions", name=report.name))
    yield from map(Text, block(report))
    if limits := raised(report.manifest, ()):
        yield Text(word("check.limits", name=report.name, limits=limits))
    unseen = sum(finding.id == "MK0834" for finding in report.findings)
    if unseen:
        yield Text(word("check.unseen", count=unseen))
    if report.manifest.permissions is None:
        yield Text(word("check.undeclared", name=report.name))
    elif not report.changes:
        yield Text(word("check.fits", name=report.name))
    else:
        yield from (Text(line) for line in _difference(report, output))


def _difference(report: Report, output: Output) -> Iterator[str]:
    notes = {"+": output.translator.word("check.missing"), "-": output.translator.word("check.unused")}
    lines = [f"{sign} {_key(key)} = [{toml_text(value)}]" for sign, key, value in report.changes]
    width = max(map(len, lines))
    for line in lines:
        yield f"{line:<{width}}   {notes[line[0]]}"


def block(report: Report) -> list[str]:
    """Return the proposed permissions as written in the manifest: a comment for a file, TOML for a folder."""
    lines = [f"{_key(key)} = [{', '.join(map(toml_text, values))}]" for key, values in report.proposed.items()]
    if not report.is_folder:
        first, second, last = _IN_FILE
        return [first, second, *(f"# {line}" for line in lines), last]
    return [f"[{_table(report.path)}]", *lines]


def _table(folder: str) -> str:
    """Return the name of the table of a folder's permissions: that of ``plugin.toml``, unless it has only a
    ``pyproject.toml``."""
    names = [name for name in ("plugin.toml", "pyproject.toml") if os.path.exists(os.path.join(folder, name))]
    return "tool.microkernel.permissions" if names == ["pyproject.toml"] else "permissions"


def _key(key: str) -> str:
    return f'"{key}"' if "." in key else key


def toml_text(value: str) -> str:
    """Return a TOML basic string without characters that control a terminal."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in escaped) + '"'


def _counts(reports: Sequence[Report]) -> dict[str, int]:
    severities = [finding.severity for report in reports for finding in report.findings]
    files = sum(report.files for report in reports)
    return {"plugins": len(reports), "files": files, **{each: severities.count(each) for each in SEVERITIES}}


# For machines


def _data(reports: Sequence[Report], output: Output) -> dict[str, Any]:
    return {
        "plugins": [_plugin(report, output) for report in reports],
        "counts": _counts(reports),
        "note": output.translator.word("check.linter"),
    }


def _plugin(report: Report, output: Output) -> dict[str, Any]:
    error = report.error
    return {
        "name": report.name,
        "path": report.path,
        "error": None if error is None else {"id": error.id, "text": output.translator.error(error)},
        "findings": [_finding(finding, output) for finding in report.findings],
        "permissions": _lists(report.proposed),
        "declared": report.manifest.permissions is not None,
        "limits": list(raised(report.manifest, ())),
        "missing": _changes(report, "+"),
        "unused": _changes(report, "-"),
    }


def _finding(finding: Finding, output: Output) -> dict[str, Any]:
    return {
        "file": finding.place.file,
        "line": finding.place.line,
        "column": finding.place.column,
        "severity": finding.severity,
        "id": finding.id,
        "text": output.catalog.text(finding.id, finding.fields),
        "fields": dict(finding.fields),
    }


def _lists(table: Table) -> Mapping[str, list[str]]:
    return {key: list(values) for key, values in table.items()}


def _changes(report: Report, sign: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in report.changes:
        if change.sign == sign:
            found.setdefault(change.permission, []).append(change.value)
    return found
