"""What makes a plugin run again stands in the error that says that it does not run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from microkernel import Kernel
from microkernel.errors import PluginNotActive, RequirementError
from microkernel.kernel.registry.states import cure_of
from microkernel.testing import harness, run_plugin

STORE = harness.plugin("@expose\ndef get(self) -> int: return 1")
SHOP = harness.plugin("", manifest='requires = ["store"]')


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with run_plugin(STORE, name="store", others={"shop": SHOP}) as running:
        yield running


def test_stopping_a_required_plugin_suggests_cascade(kernel: Kernel) -> None:
    with pytest.raises(RequirementError, match=r"required by shop; to stop them too: mk stop store --cascade$"):
        kernel.stop("store")


def test_call_of_a_stopped_plugin_suggests_start(kernel: Kernel) -> None:
    kernel.stop("store", cascade=True)
    with pytest.raises(
        PluginNotActive, match=r"^MK0213 store is stopped: store.get cannot be called; to start it: mk start store$"
    ):
        kernel.call("store.get")


@pytest.mark.parametrize(
    ("state", "command"),
    [("failed", "mk start store"), ("quarantined", "mk start store --reset"), ("held", "mk approve store")],
)
def test_state_suggests_the_command_that_ends_it(state: str, command: str) -> None:
    assert cure_of("store", state).endswith(f": {command}")


def test_zombie_state_suggests_no_command() -> None:
    assert cure_of("store", "zombie") == ""
