"""The operator's configuration, ``microkernel.toml``. Plain data that the loader reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from microkernel.kernel.manifest import Level, Permissions
from microkernel.wire.light_dataclasses import dataclass

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """The operator's settings for one plugin. ``None`` leaves a value to the manifest."""

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
    """Plugins that are restarted together, in the order in which they start."""

    strategy: Strategy = "one_for_one"
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """Rules for approvals.

    ``pin``: which changes of an approved plugin's files need a new approval: those under the same ``version``, or any
    changed byte (``bytes``). Empty if not configured, which acts like ``version``.
    """

    pin: Literal["", "version", "bytes"] = ""


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """``microkernel.toml`` as data. ``plugins``: folders, files or entry points that are searched for plugins."""

    name: str = ""
    plugins: tuple[str, ...] = ()
    isolation: Level = "process"
    min_isolation: Level = "process"
    # Weaker levels that the operator accepts if this machine does not provide the requested one.
    fallback: tuple[Level, ...] = ()
    data_dir: str = ""
    language: str = ""
    log_level: str = "INFO"
    # Calls of one process plugin to another after which they get a direct channel; 0 for never.
    direct_after: int = 32
    limits: Mapping[str, float] = field(default_factory=dict)
    plugin: Mapping[str, PluginConfig] = field(default_factory=dict)
    group: Mapping[str, Group] = field(default_factory=dict)
    approvals: ApprovalRules = field(default_factory=ApprovalRules)
    # The file it was read from, and the keys written there.
    source: str = field(default="", compare=False, repr=False)
    written: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
