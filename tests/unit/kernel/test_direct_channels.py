"""Which pairs of instances may have a direct channel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from microkernel.kernel.manifest import Permissions
from microkernel.kernel.routing.direct_channels import qualifies
from microkernel.wire.messages import MAX_PATTERNS


def pair(**changes: Any) -> list[Any]:
    """Return caller's record, caller, callee's record, callee."""
    given = {"level": "process", "caller_level": "process", "state": "active", "concurrency": 1, "current": True}
    given |= {"leaving": False, "may": None} | changes
    caller = SimpleNamespace(level=given["caller_level"], permissions=Permissions(call=given["may"]))
    callee = SimpleNamespace(
        level=given["level"],
        is_current=given["current"],
        exit_expected=given["leaving"],
        manifest=SimpleNamespace(concurrency=given["concurrency"]),
    )
    return [SimpleNamespace(instance=caller), caller, SimpleNamespace(state=given["state"]), callee]


def test_two_active_process_plugins_qualify() -> None:
    assert qualifies(*pair())
    assert qualifies(*pair(may=("a.*",)))


@pytest.mark.parametrize(
    "change",
    [
        {"level": "sandbox"},
        {"level": "thread"},
        {"caller_level": "wasm"},
        {"state": "stopping"},
        {"state": "starting"},
        {"concurrency": 2},
        {"current": False},
        {"leaving": True},
        {"may": ("a.b",) * (MAX_PATTERNS + 1)},
    ],
    ids=str,
)
def test_other_pairs_do_not_qualify(change: dict[str, Any]) -> None:
    assert not qualifies(*pair(**change))


def test_a_plugin_does_not_qualify_for_itself_or_as_an_earlier_generation() -> None:
    source, caller, target, callee = pair()
    assert not qualifies(source, caller, target, caller)
    source.instance = callee
    assert not qualifies(source, caller, target, callee)
