"""Combine a manifest and the operator's configuration into the values in force for one plugin. Pure."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from microkernel.errors import ConfigError
from microkernel.kernel.admission import limit_bounds
from microkernel.kernel.admission.permissions import CONFINED
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.manifest import LEVELS, Level, Manifest

_NOTHING = PluginConfig()
_COMMON = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "PWD", "LANG", "LANGUAGE", "TZ", "TMPDIR", "HOSTNAME",
})  # fmt: skip
_COMMON_BEGIN = ("LC_", "XDG_")


def check_kernel_name(name: str) -> str:
    """Return ``name``, of a socket and a state folder. Raises ConfigError if it cannot be a file's name."""
    if not name or name.startswith(".") or not name.isprintable() or "/" in name or len(os.fsencode(name)) > 200:
        raise ConfigError("MK0705", path=repr(name), reason="this cannot be a kernel's name")
    return name


def state_home(environ: Mapping[str, str]) -> Path | None:
    """Return the folder of this user's program state; None without XDG_STATE_HOME and a home folder."""
    named = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(named):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return None
    return home / ".local" / "state" if home.is_absolute() else None


def merge(manifest: Manifest, config: KernelConfig) -> Manifest:
    """Return the manifest with every value that the operator has set replaced by the operator's."""
    own = config.plugin.get(manifest.name, _NOTHING)
    return replace(
        manifest,
        enabled=manifest.enabled if own.enabled is None else own.enabled,
        concurrency=own.concurrency or manifest.concurrency,
        limits=replace(manifest.limits, **{**config.limits, **own.limits}),  # type: ignore[arg-type]
        supervision=replace(manifest.supervision, **own.supervision),
        determinism=replace(manifest.determinism, **own.determinism),
        config={**manifest.config, **own.config},
    )


def unknown_names(config: KernelConfig, granted: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the names that the operator configures and no plugin has, as (table of the configuration, name)."""
    named = [(f"[plugin.{name}]", name) for name in config.plugin]
    named += [(f"[group.{group}]", name) for group, own in config.group.items() for name in own.plugins]
    named += [("Kernel(grants=...)", name) for name in granted]
    return ((table, name) for table, name in named if name not in known)


def cap_limits(
    manifest: Manifest, config: KernelConfig, level: Level, approved: Collection[str] | None = ()
) -> Manifest:
    """Return the manifest with its limits as they hold at its level.

    All values are kept within the bounds of every manifest. At a confined level, values that cost more than their
    defaults are lowered, unless they are among the ``approved`` lines. Values set by the operator are kept.
    """
    fixed = fixed_limits(config, manifest.name)
    bounded = limit_bounds.keep_within(manifest, fixed)
    return limit_bounds.lower(bounded, fixed, approved) if level in CONFINED else bounded


def fixed_limits(config: KernelConfig, name: str) -> frozenset[str]:
    """Return the names of the limits and supervision values that the operator has set for a plugin."""
    return limit_bounds.fixed_by(config.plugin.get(name), limits=config.limits)


def choose_level(manifest: Manifest, config: KernelConfig, override: Level | None) -> tuple[Level, bool]:
    """Return the level of a plugin, and whether its manifest asked for less isolation than it gets.

    ``override``, the embedder's level for all plugins, takes precedence; then the operator's level for this plugin;
    then the strongest of the manifest's, the operator's ``isolation`` and ``min_isolation``.
    """
    if override is not None:
        return override, False
    own = config.plugin.get(manifest.name, _NOTHING).isolation
    if own is not None:
        return own, False
    asked = manifest.isolation or config.isolation
    level = max(asked, config.isolation, config.min_isolation, key=LEVELS.index)
    return level, manifest.isolation is not None and LEVELS.index(manifest.isolation) < LEVELS.index(level)


def resolve_secrets(config: Mapping[str, Any], environ: Mapping[str, str], path: str = "config") -> dict[str, Any]:
    """Replace each ``{env = "X"}`` by that variable's value. Raises ConfigError if it is not set."""
    return {key: _resolve(value, environ, f"{path}.{key}") for key, value in config.items()}


def _resolve(value: Any, environ: Mapping[str, str], path: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"env"}:
        if not isinstance(value["env"], str) or not value["env"]:
            got = f"{type(value['env']).__name__} {value['env']!r}"[:100]
            raise ConfigError("MK0110", path=path, key="env", wanted="the name of a variable", got=got, suggestion="")
        if value["env"] not in environ:
            raise ConfigError("MK0705", path=path, reason=f"the environment has no variable {value['env']}")
        return environ[value["env"]]
    return resolve_secrets(value, environ, path)


def secret_values(config: Mapping[str, Any], environ: Mapping[str, str]) -> set[str]:
    """Return the values that are redacted everywhere: all given as ``{env = "X"}``, except common variables."""
    return {environ[name] for name in variables(config) if name in environ and not is_common(name)}


def variables(config: Mapping[str, Any]) -> set[str]:
    """Return the environment variables that a configuration reads."""
    return set(_variables(config))


def _variables(config: Mapping[str, Any]) -> Iterator[str]:
    for value in config.values():
        if isinstance(value, Mapping) and set(value) == {"env"} and isinstance(value["env"], str):
            yield value["env"]
        elif isinstance(value, Mapping):
            yield from _variables(value)


def is_common(variable: str) -> bool:
    """Return whether programs need this variable. It is not a secret then, even if a configuration reads it."""
    return variable in _COMMON or variable.startswith(_COMMON_BEGIN)
