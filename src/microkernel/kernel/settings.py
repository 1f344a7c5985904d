"""From what a manifest asks and the operator decides to what holds for one plugin. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from microkernel.errors import ConfigError
from microkernel.kernel.manifest import LEVELS, KernelConfig, Level, Manifest, PluginConfig

_NOTHING = PluginConfig()
_COMMON = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "PWD", "LANG", "LANGUAGE", "TZ", "TMPDIR", "HOSTNAME",
})  # fmt: skip
_COMMON_BEGIN = ("LC_", "XDG_")


def effective(manifest: Manifest, config: KernelConfig) -> Manifest:
    """The manifest with the operator's limits, supervision, concurrency and configuration laid over it."""
    own = config.plugin.get(manifest.name, _NOTHING)
    return replace(
        manifest,
        enabled=manifest.enabled if own.enabled is None else own.enabled,
        concurrency=own.concurrency or manifest.concurrency,
        limits=replace(manifest.limits, **{**config.limits, **own.limits}),  # type: ignore[arg-type]
        supervision=replace(manifest.supervision, **own.supervision),
        config={**manifest.config, **own.config},
    )


def choose_level(manifest: Manifest, config: KernelConfig, override: Level | None) -> tuple[Level, bool]:
    """The level a plugin runs at, and whether its manifest asked for less isolation than it gets.

    ``override`` is the embedder's word for all; then the operator's for this plugin; then the stronger of what the
    manifest asks for and the operator's least.
    """
    if override is not None:
        return override, False
    own = config.plugin.get(manifest.name, _NOTHING).isolation
    if own is not None:
        return own, False
    asked = manifest.isolation or config.isolation
    level = max(asked, config.min_isolation, key=LEVELS.index)
    return level, manifest.isolation is not None and LEVELS.index(manifest.isolation) < LEVELS.index(level)


def resolve_secrets(config: Mapping[str, Any], environ: Mapping[str, str], path: str = "config") -> dict[str, Any]:
    """The configuration with each ``{env = "X"}`` replaced by that variable. Raises ConfigError where it is not set."""
    return {key: _resolve(value, environ, f"{path}.{key}") for key, value in config.items()}


def _resolve(value: Any, environ: Mapping[str, str], path: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"env"}:
        if value["env"] not in environ:
            raise ConfigError("MK0705", path=path, reason=f"the environment has no variable {value['env']}")
        return environ[value["env"]]
    return resolve_secrets(value, environ, path)


def variables(config: Mapping[str, Any]) -> set[str]:
    """The variables that a configuration takes values from."""
    return {name for _, name in references(config)}


def references(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Where in a configuration ``{env = "X"}`` stands, and the X."""
    for key, value in config.items():
        if not isinstance(value, Mapping):
            continue
        where = f"{path}.{key}" if path else key
        if set(value) == {"env"} and isinstance(value["env"], str):
            yield where, value["env"]
        else:
            yield from references(value, where)


def is_common(variable: str) -> bool:
    """Programs need it, and it is no secret, even where a configuration takes a value from it."""
    return variable in _COMMON or variable.startswith(_COMMON_BEGIN)
