"""A level that is confined by its name alone: the rules for ``sandbox`` without its walls."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from microkernel.hosts.process import ProcessHost


class SandboxHost(ProcessHost):
    """Processes, called sandboxes."""

    level = "sandbox"


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``sandbox`` be had on any machine, in this process."""
    module = ModuleType("microkernel.hosts.sandbox")
    module.SandboxHost = SandboxHost  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "microkernel.hosts.sandbox", module)
