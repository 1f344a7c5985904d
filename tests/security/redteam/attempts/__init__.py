"""All attempts, group by group."""

from __future__ import annotations

from dataclasses import replace

from tests.security.redteam.attempts import (
    attributes,
    environment,
    files,
    framing,
    guest,
    interfaces,
    kept,
    kernel_process,
    network,
    options,
    others,
    processes,
    resources,
    terminal,
)

_GROUPS = (
    files, attributes, network, processes, kernel_process, environment, resources, kept, terminal, interfaces, options,
    framing, others, guest,
)  # fmt: skip
ALL = [replace(attempt, group=group.GROUP) for group in _GROUPS for attempt in group.ATTEMPTS]
