"""The operator's configuration, ``microkernel.toml``. Plain data that the loader reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from microkernel.kernel.manifest import Level, Permissions

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """What the operator says of one plugin; ``None`` leaves it to the manifest."""

    enabled: bool | None = None
    isolation: Level | None = None
    concurrency: int | None = None
    permissions: Permissions | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    supervision: Mapping[str, Any] = field(default_factory=dict)
    determinism: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Plugins that are restarted together, in the order they start."""

    strategy: Strategy = "one_for_one"
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """``pin``: which change of an approved plugin's files has to be approved again: one under the same ``version``, or
    any, down to a byte (``bytes``); empty where nothing is written, which is as ``version``."""

    pin: Literal["", "version", "bytes"] = ""


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """``microkernel.toml`` as data. ``plugins``: folders, files or entry points to look for plugins in."""

    name: str = ""
    plugins: tuple[str, ...] = ()
    isolation: Level = "process"
    min_isolation: Level = "process"
    fallback: tuple[Level, ...] = ()
    """Weaker levels the operator accepts where this machine cannot give the one asked for."""
    data_dir: str = ""
    language: str = ""
    log_level: str = "INFO"
    limits: Mapping[str, float] = field(default_factory=dict)
    plugin: Mapping[str, PluginConfig] = field(default_factory=dict)
    group: Mapping[str, Group] = field(default_factory=dict)
    approvals: ApprovalRules = field(default_factory=ApprovalRules)
    source: str = field(default="", compare=False, repr=False)
    """The file that it was read from, and the keys that stand there."""
    written: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
