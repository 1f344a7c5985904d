"""Reads a plugin's manifest without running its code.

A single file has a PEP 723 block. A folder has ``plugin.toml``, or ``pyproject.toml`` with ``[tool.microkernel]``, or
the block in its entry file.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

from microkernel.errors import ManifestError, valid_text
from microkernel.kernel.manifest import NAME, Determinism, Limits, Manifest, Supervision
from microkernel.loader import schema, shared_tables
from microkernel.loader.beneath import Beneath
from microkernel.loader.byte_scan import MANIFEST_BYTES, SOURCE_BYTES, check_values
from microkernel.loader.display import display_path
from microkernel.loader.files import check_size, is_folder, is_there, read_text
from microkernel.loader.parsers import toml_of
from microkernel.loader.schema import Schema, Where
from microkernel.loader.shared_tables import DETERMINISM, SUPERVISION

# Entry files of a folder, in order of preference.
ENTRIES = ("__init__.py", "plugin.py")
_FILES = ("plugin.toml", "pyproject.toml", *ENTRIES)

# Longest name; it is also the name of a folder, and of files with suffixes.
LONGEST_NAME = 100

_BLOCK = re.compile(r"^# /// script$\n(?P<content>(?:^#(?:| .*)$\n)+)^# ///$", re.MULTILINE)
_OPENING = re.compile(r"^# /// script$", re.MULTILINE)

_BLOCK_KEYS: Schema = {
    "dependencies": schema.anything,
    "requires-python": schema.anything,
    "tool": schema.free_table,
}
_MANIFEST: Schema = {
    "name": schema.text,
    "version": schema.version,
    "description": schema.text,
    "isolation": shared_tables.level,
    "enabled": schema.flag,
    "requires": schema.list_of(schema.plugin_requirement, 'a list of requirements such as "billing>=2"'),
    "wants": schema.list_of(schema.plugin_requirement, 'a list of requirements such as "billing>=2"'),
    "requires-python": schema.python_versions,
    "dependencies": schema.list_of(schema.dependency, 'a list of requirements such as "httpx>=0.28"'),
    "concurrency": schema.integer(1),
    "permissions": shared_tables.permissions,
    "limits": schema.object_of(Limits, shared_tables.limits),
    "supervision": schema.object_of(Supervision, schema.table(SUPERVISION)),
    "determinism": schema.object_of(Determinism, schema.table(DETERMINISM)),
    "config": schema.free_table,
}
_OF_PROJECT = ("name", "version", "description", "dependencies", "requires-python")


def read_manifest(path: str, defaults: Mapping[str, Any] | None = None) -> Manifest:
    """Return the manifest of the plugin at ``path``, a file or a folder. ``defaults`` are used for missing keys.

    Raises ManifestError: MK0101, MK0102 or MK0104 (cannot be read), MK0108 (name), MK0109 to MK0111 (keys, values,
    TOML), MK0124 (requirements), MK0139 and MK0141 to MK0144 (too large, too deep, too long). The code is not checked
    here.
    """
    try:
        return _read_manifest(path, defaults or {})
    except ManifestError as error:
        raise _without_content(path, error) from None


def _without_content(path: str, error: ManifestError) -> ManifestError:
    """Return an error without any content of a file behind a link out of the plugin's folder: MK0157."""
    file = next((name for name in _FILES if error.fields.get("path") == display_path(os.path.join(path, name))), "")
    if error.id in ("MK0101", "MK0102") or not file or not os.path.isdir(path):
        return error
    with Beneath(path) as tree:
        target = tree.leads_out(file)
    return ManifestError("MK0157", path=error.fields["path"], target=target) if target else error


def _read_manifest(path: str, defaults: Mapping[str, Any]) -> Manifest:
    source, written = _folder(path) if is_folder(path) else _file(path)
    check_values(written, source, ManifestError)
    values = {"name": stem(path), **defaults, **written}
    manifest = Manifest(**schema.as_fields(schema.read_table(values, _MANIFEST, Where(source, ManifestError))))
    check_name(manifest.name, source)
    return manifest


def stem(path: str) -> str:
    """Return the name of a plugin whose manifest has none."""
    name = os.path.basename(os.path.normpath(path))
    return name if os.path.isdir(path) else name.removesuffix(".py")


def entry_of(folder: str) -> str | None:
    """Return the entry file of a folder; None if it has no code."""
    return next((entry for entry in ENTRIES if is_there(os.path.join(folder, entry))), None)


def check_name(name: str, path: str) -> None:
    """Raise ManifestError MK0108 for an invalid plugin name."""
    reason = _objection(name)
    if reason:
        raise ManifestError("MK0108", path=display_path(path), name=valid_text(name[:LONGEST_NAME]), reason=reason)


def script_block(text: str, path: str) -> dict[str, Any]:
    """Return the table of the ``# /// script`` block of a file (PEP 723); empty if there is none. Raises
    ManifestError MK0111.

    A block without an end is an error, not a comment, because its permissions would be lost silently.
    """
    text = text.replace("\r\n", "\n")
    openings = list(islice(_OPENING.finditer(text), 2))
    if not openings:
        return {}
    if len(openings) > 1:
        raise _bad_block(path, "more than one '# /// script' block")
    line = text.count("\n", 0, openings[0].start()) + 1
    block = _BLOCK.match(text, openings[0].start())
    if block is None:
        raise _bad_block(path, f"the block of line {line} needs '# ' before every line and '# ///' at its end")
    # Preceded by as many empty lines as in the file, so that errors name the right line.
    content = re.sub(r"^# ?", "", block["content"], flags=re.MULTILINE)
    check_size(len(content), MANIFEST_BYTES, path, ManifestError)
    return toml_of("\n" * line + content, path)


def _read(path: str) -> dict[str, Any]:
    return toml_of(read_text(path, ManifestError, MANIFEST_BYTES), path)


# The places of a manifest. Each function returns the file that it read and the keys in it.


def _file(path: str) -> tuple[str, dict[str, Any]]:
    where = Where(path, ManifestError)
    block = schema.read_table(script_block(read_text(path, ManifestError, SOURCE_BYTES), path), _BLOCK_KEYS, where)
    own = _own_table(block, where)
    return path, {**{key: value for key, value in block.items() if key != "tool"}, **own}


def _folder(path: str) -> tuple[str, dict[str, Any]]:
    plugin, project = (os.path.join(path, name) for name in ("plugin.toml", "pyproject.toml"))
    if is_there(plugin):
        return plugin, _read(plugin)
    if is_there(project):
        return project, _project(_read(project), Where(project, ManifestError))
    return _file(os.path.join(path, entry_of(path) or ENTRIES[0]))


def _project(toml: dict[str, Any], where: Where) -> dict[str, Any]:
    project = schema.free_table(toml.get("project", {}), where.below("project"))
    return {**{key: project[key] for key in _OF_PROJECT if key in project}, **_own_table(toml, where)}


def _own_table(toml: dict[str, Any], where: Where) -> dict[str, Any]:
    tools = schema.free_table(toml.get("tool", {}), where.below("tool"))
    return schema.free_table(tools.get("microkernel", {}), where.below("tool.microkernel"))


def _bad_block(path: str, reason: str) -> ManifestError:
    return ManifestError("MK0111", path=display_path(path), reason=reason)


def _objection(name: str) -> str:
    """Return why a name is invalid and how to correct it; empty for a valid name."""
    if valid_text(name) != name:
        return f"it is not valid Unicode. {_rename(_like(name))}"
    if name in ("kernel", "microkernel"):
        return f"that is the kernel itself. {_rename('my-' + name)}"
    if name in sys.stdlib_module_names:
        return f"Python's own module {name} has it. {_rename('my-' + name)}"
    if len(name) > LONGEST_NAME:
        return f"it has more than {LONGEST_NAME} characters. {_rename(_like(name)[:20])}"
    if NAME.fullmatch(name) is None:
        return f"a name is a small letter, then small letters, digits, _ and -. {_rename(_like(name))}"
    return ""


def _rename(name: str) -> str:
    return f'Rename it, or write in its manifest: name = "{name}"'


def _like(name: str) -> str:
    """Return the most similar valid name."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).lstrip("0123456789_-").rstrip("-") or "my-plugin"
