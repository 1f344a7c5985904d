"""The kernel's side of an instance: its owner, and when it takes from the mailbox."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from microkernel.kernel.manifest import Manifest, Permissions
from microkernel.kernel.messaging.delivery import CallDelivery
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.quota import Quota
from microkernel.kernel.ports import Exit
from microkernel.kernel.registry.instance import Instance
from microkernel.wire.messages import Call
from microkernel.wire.secrets import Secrets


class Owner:
    def __init__(self) -> None:
        self.exits: list[Exit] = []
        self.activities = 0

    def on_exit(self, instance: Instance, exit: Exit) -> None:
        assert instance.exit is exit
        self.exits.append(exit)

    def on_activity(self, instance: Instance) -> None:
        self.activities += 1


def make(mailbox: Mailbox, owner: Owner) -> Instance:
    observer: Any = SimpleNamespace(on_exit=lambda *_: None, on_unwanted=lambda *_: None)
    watcher: Any = owner
    runner: Any = SimpleNamespace()
    return Instance(
        "p", 1, "process", Manifest("p"), None, Permissions(), mailbox, Quota(), observer, watcher, Secrets(),
        lambda _: runner, in_memory=False,
    )  # fmt: skip


def test_exit_is_reported_to_the_current_owner() -> None:
    first, second = Owner(), Owner()
    instance = make(Mailbox(10), first)
    instance.transfer(second)  # type: ignore[arg-type]
    instance.ended(Exit("it crashed"))
    assert (first.exits, [exit.reason for exit in second.exits]) == ([], ["it crashed"])


def test_an_exit_before_the_transfer_is_reported_to_the_new_owner_too() -> None:
    """Otherwise an instance that dies while a reload hands it over would be nobody's."""
    first, second = Owner(), Owner()
    instance = make(Mailbox(10), first)
    instance.ended(Exit("it crashed"))
    instance.transfer(second)  # type: ignore[arg-type]
    assert [exit.reason for exit in [*first.exits, *second.exits]] == ["it crashed", "it crashed"]


def test_pending_exit_replaces_the_exit_reported_by_the_runner() -> None:
    owner = Owner()
    instance = make(Mailbox(10), owner)
    instance.pending_exit = Exit("silent for 5 s")
    instance.ended(Exit("killed by signal 9"))
    assert [exit.reason for exit in owner.exits] == ["silent for 5 s"]


def test_only_the_connected_instance_takes_from_the_mailbox() -> None:
    mailbox, owner = Mailbox(10), Owner()
    old, new = make(mailbox, owner), make(mailbox, owner)
    mailbox.connect(bool, bool, new)
    mailbox.put(CallDelivery(1, Call(1, "p.m"), "m"))
    assert (old.take(10), old.is_current, owner.activities) == ([], False, 0)
    (invoke,) = new.take(10)
    assert (getattr(invoke, "id", 0), new.is_current, owner.activities) == (1, True, 1)
    mailbox.disconnect()
    mailbox.put(CallDelivery(2, Call(2, "p.m"), "m"))
    assert new.take(10) == []
