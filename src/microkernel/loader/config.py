"""Reads ``microkernel.toml``, the operator's configuration."""

from __future__ import annotations

import os
from typing import Any

from microkernel.errors import ConfigError
from microkernel.kernel.config import ApprovalRules, Group, KernelConfig, PluginConfig
from microkernel.loader import schema, shared_tables
from microkernel.loader.display import display_path
from microkernel.loader.files import read_toml
from microkernel.loader.schema import Schema, Where
from microkernel.loader.shared_tables import DETERMINISM, SUPERVISION

_PLUGIN: Schema = {
    "enabled": schema.flag,
    "isolation": shared_tables.level,
    "concurrency": schema.integer(1),
    "permissions": shared_tables.permissions,
    "limits": shared_tables.limits,
    "supervision": schema.table(SUPERVISION),
    "determinism": schema.table(DETERMINISM),
    "config": schema.free_table,
}
_GROUP: Schema = {
    "strategy": schema.one_of("one_for_one", "one_for_all", "rest_for_one"),
    "plugins": schema.list_of(schema.word, "a list of names of plugins"),
}
_KERNEL: Schema = {
    "name": schema.text,
    "plugins": schema.list_of(schema.word, "a list of folders, files and entry points"),
    "isolation": shared_tables.level,
    "min_isolation": shared_tables.level,
    "fallback": schema.list_of(shared_tables.level, "a list of levels"),
    "data_dir": schema.text,
    "language": schema.one_of("en", "zh"),
    "log_level": schema.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    "direct_after": schema.integer(0),
    "limits": shared_tables.limits,
    "plugin": schema.tables(schema.object_of(PluginConfig, schema.table(_PLUGIN))),
    "group": schema.tables(schema.object_of(Group, schema.table(_GROUP))),
    "approvals": schema.object_of(ApprovalRules, schema.table({"pin": schema.one_of("version", "bytes")})),
}


def read_config(path: str) -> KernelConfig:
    """Read the configuration; paths stay as written.

    Raises ConfigError: MK0102 or MK0104 (cannot be read), MK0109 (unknown key), MK0110 (wrong value), MK0111 (TOML). A
    configured plugin that does not exist is not an error here, because the plugins are not known yet.
    """
    if os.path.realpath(path) == os.devnull:
        return KernelConfig()  # the usual name for an empty file
    try:
        toml = read_toml(path, ConfigError)
    except ConfigError as error:
        if error.id != "MK0101":
            raise
        raise ConfigError("MK0102", path=display_path(path), reason="no such file") from None
    return KernelConfig(
        **check_config(toml, Where(path, ConfigError)), source=display_path(path), written=frozenset(toml)
    )


def check_config(table: Any, where: Where) -> dict[str, Any]:
    """Return the fields of a KernelConfig from a table like that of the file. Raises ConfigError MK0109 or MK0110."""
    return schema.read_table(table, _KERNEL, where)
