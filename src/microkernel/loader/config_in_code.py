"""The configuration as a program writes it: the keys of ``microkernel.toml``, with the same checks and messages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from microkernel.errors import ConfigError
from microkernel.kernel import config as kernel_config
from microkernel.kernel.config import ApprovalRules, Group, PluginConfig
from microkernel.kernel.manifest import Level, Permissions
from microkernel.loader.config import check_config, read_config
from microkernel.loader.schema import Where

Table = Mapping[str, Any]
# The forms in which a Kernel accepts its configuration.
Configured = kernel_config.KernelConfig | Mapping[str, Any] | str | os.PathLike[str]
_DEFAULTS = kernel_config.KernelConfig()


class KernelConfig(kernel_config.KernelConfig):
    """``microkernel.toml`` in code: ``KernelConfig(isolation="sandbox", limits={"memory": "256MiB"})``.

    ``plugins``: folders, files or entry points; like ``data_dir``, relative to the working folder. ``limits``, and each
    table of ``plugin`` and ``group``, have the keys that they have in the file; a size may be a text. ``source`` and
    ``written`` are for whoever reads a file.

    Raises ConfigError: MK0109 for an unknown key, with a suggestion; MK0110 for a wrong value.
    """

    __slots__ = ()

    def __init__(
        self,
        name: str = "",
        plugins: Sequence[str | os.PathLike[str]] = (),
        isolation: Level = "process",
        min_isolation: Level = "process",
        fallback: Sequence[Level] = (),
        data_dir: str | os.PathLike[str] = "",
        language: str = "",
        log_level: str = "INFO",
        limits: Mapping[str, float | str] = _DEFAULTS.limits,
        plugin: Mapping[str, PluginConfig | Table] = _DEFAULTS.plugin,
        group: Mapping[str, Group | Table] = _DEFAULTS.group,
        approvals: ApprovalRules | Table = _DEFAULTS.approvals,
        direct_after: int = _DEFAULTS.direct_after,
        *,
        source: str = "",
        written: frozenset[str] = frozenset(),
    ) -> None:
        given = {
            "name": name, "plugins": plugins, "isolation": isolation, "min_isolation": min_isolation,
            "fallback": fallback, "data_dir": data_dir, "language": language, "log_level": log_level,
            "limits": limits, "plugin": plugin, "group": group, "approvals": approvals,
            "direct_after": direct_after,
        }  # fmt: skip
        checked = _checked(_set_in(given), "KernelConfig")
        super().__init__(**checked, source=source, written=written)


def config_of(given: kernel_config.KernelConfig | Table) -> kernel_config.KernelConfig:
    """Check the configuration that a program passes to a Kernel. Raises ConfigError as ``KernelConfig`` does.

    A configuration in its checked form is returned unchanged, because its tables may be special mappings.
    """
    if isinstance(given, KernelConfig):
        return given
    if isinstance(given, kernel_config.KernelConfig):
        values = {each.name: getattr(given, each.name) for each in fields(given)}
        checked = KernelConfig(**values)
        return given if all(getattr(checked, name) == value for name, value in values.items()) else checked
    if not isinstance(given, Mapping):
        raise Where("Kernel", ConfigError, "config").wrong_type("a KernelConfig, a table, or the path of a file", given)
    return kernel_config.KernelConfig(**_checked(given, "config"))


def _checked(given: Table, path: str) -> dict[str, Any]:
    return check_config(_as_in_toml(given), Where(path, ConfigError))


def _set_in(given: Table) -> Table:
    """Return the keys that differ from the defaults, as a file would name them."""
    return {key: value for key, value in given.items() if value != getattr(_DEFAULTS, key)}


def _as_in_toml(value: Any, key: str = "") -> Any:
    """Convert a program's value to the types that TOML has. A plugin's own ``config`` is left unchanged."""
    if isinstance(value, PluginConfig | Group | ApprovalRules):
        value = _without_defaults(value)
    if isinstance(value, Permissions) or key == "config":
        return value
    if isinstance(value, Mapping):
        return {name: _as_in_toml(each, name) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_as_in_toml(each) for each in value]
    if key == "clock" and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _without_defaults(value: PluginConfig | Group | ApprovalRules) -> dict[str, Any]:
    default = type(value)()
    named = ((each.name, getattr(value, each.name)) for each in fields(value))
    return {name: own for name, own in named if own != getattr(default, name)}


def configuration(config: Configured | None) -> kernel_config.KernelConfig:
    """Return the configuration from any of the forms in which a Kernel accepts it. Raises ConfigError."""
    if config is None:
        return kernel_config.KernelConfig()
    return read_with_paths(config) if isinstance(config, str | os.PathLike) else config_of(config)


def read_with_paths(path: str | os.PathLike[str]) -> kernel_config.KernelConfig:
    """Read a configuration file. Paths in it, which are relative to its folder, are completed. Raises ConfigError."""
    config, folder = read_config(os.fspath(path)), Path(path).resolve().parent
    return replace(
        config,
        plugins=tuple(p if p.startswith("entry-point") else str(folder / p) for p in config.plugins),
        data_dir=str(folder / config.data_dir) if config.data_dir else "",
    )
