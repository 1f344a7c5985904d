"""The only place that checks the permissions of messages. Every message of an instance passes it.

The sender is known by the channel that the message came through, never by its content. The checks are a table: for each
type of message, the permission it needs and the topic, key or target it needs it for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microkernel.errors import PermissionDenied
from microkernel.kernel.manifest import OBSERVING, Permissions
from microkernel.wire import messages
from microkernel.wire.topics import check_pattern, check_topic, covers

# Prefix of the kernel's own topics and services. Plugins need ``kernel.observe`` or ``kernel.control`` for them.
KERNEL_TOPICS = "kernel."

Checked = tuple[str, str]


def admit(name: str, permissions: Permissions, message: messages.Message) -> None:
    """Check that a plugin may send a message. Raises PermissionDenied, with the line to add to the manifest, and
    BadTopic for an invalid topic, key, pattern or target."""
    check = _CHECKS.get(type(message))
    if check is None:
        return
    action, what = check(message)
    if what.startswith(KERNEL_TOPICS) and action in _KERNEL_ACTIONS:
        _admit_to_kernel(name, permissions, action, what)
        return
    patterns = getattr(permissions, action.replace(".", "_"))
    if patterns is None or _own(name, action, what) or any(covers(pattern, what) for pattern in patterns):
        return
    raise PermissionDenied("MK0401", name=name, action=action, what=what, line=f'{action} = ["{what}"]')


def observes(permissions: Permissions) -> bool:
    """Return whether a plugin with these permissions may receive the kernel's own events."""
    return "observe" in permissions.kernel or "control" in permissions.kernel


def _own(name: str, action: str, what: str) -> bool:
    return action in ("emit", "data.write", "data.read") and what.startswith(f"{name}.")


def _admit_to_kernel(name: str, permissions: Permissions, action: str, what: str) -> None:
    observing = action == "on" or what in OBSERVING
    if action != "emit" and ("control" in permissions.kernel or (observing and "observe" in permissions.kernel)):
        return
    line = (
        "nothing: only the kernel emits these"
        if action == "emit"
        else ('kernel = ["observe"]' if observing else 'kernel = ["control"]')
    )
    raise PermissionDenied("MK0401", name=name, action=action, what=what, line=line)


_KERNEL_ACTIONS = frozenset({"emit", "on", "call"})


def _handler(handler: messages.Handler) -> Checked:
    return ("data.read" if handler.board else "on"), check_pattern(handler.pattern)


def _data(message: messages.Data) -> Checked:
    return ("data.read" if message.action == "get" else "data.write"), check_topic(message.key)


_CHECKS: dict[type[messages.Message], Callable[[Any], Checked]] = {
    messages.Emit: lambda m: ("emit", check_topic(m.topic)),
    messages.Ask: lambda m: ("emit", check_topic(m.topic)),
    messages.Call: lambda m: ("call", check_topic(m.target)),
    messages.Subscribe: lambda m: _handler(m.handler),
    messages.Data: _data,
}
