"""Test whether this machine can confine a process: fork one that confines itself, reports its protections, and
exits."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping
from typing import Any

from microkernel.errors import ProtocolError
from microkernel.hosts.worker.socket_pairs import blocking_pair
from microkernel.hosts.worker.zygote import ZygoteHandle
from microkernel.wire import frames
from microkernel.wire.messages import ConfinementReport
from microkernel.wire.session import Session

_TIMEOUT_MS = 10_000
# What a version of the Landlock ABI added.
_FEATURES_BY_ABI = {2: "moving files between folders", 4: "TCP rules", 6: "scopes"}


def probe(zygote: ZygoteHandle, request: Mapping[str, Any]) -> ConfinementReport:
    """Return the report of a test worker. Raises IsolationUnavailable if no worker can be forked."""
    down, their_down = blocking_pair()
    up, their_up = blocking_pair()
    nothing = os.open(os.devnull, os.O_WRONLY)
    with down, up:
        try:
            fork = zygote.fork(request, [their_down.fileno(), their_up.fileno(), nothing, nothing], _ended)
        finally:
            their_down.close()
            their_up.close()
            os.close(nothing)
        os.close(fork.handle)
        return _receive_report(up)


def _receive_report(up: socket.socket) -> ConfinementReport:
    session = Session("kernel")
    poll = select.poll()
    poll.register(up, select.POLLIN)
    try:
        while poll.poll(_TIMEOUT_MS) and (data := up.recv(frames.DATAGRAM)):
            for message in session.receive(data):
                if isinstance(message, ConfinementReport):
                    return message
    except (OSError, ProtocolError) as error:
        return ConfinementReport(missing=f"the trial worker failed: {error}")
    return ConfinementReport(missing="the trial worker ended without a report")


def _ended(_exit: object) -> None:
    """Does nothing: the worker is expected to exit."""


def describe(confined: ConfinementReport, cgroups: str, no_cgroups: str) -> str:
    """Describe the protections for `mk doctor`. ``cgroups``: which exist; ``no_cgroups``: why there are none."""
    newer = [what for since, what in _FEATURES_BY_ABI.items() if confined.landlock < since]
    parts = [f"Landlock ABI {confined.landlock}", "seccomp", _namespaces(confined.namespaces)]
    missing = [*newer, *([] if cgroups else [f"cgroups ({no_cgroups})"])]
    has = [*parts, *([cgroups] if cgroups else [])]
    return " · ".join([*has, *([f"not: {', '.join(missing)}"] if missing else [])])


def _namespaces(names: list[str]) -> str:
    return f"{_join(names)} namespaces" if names else "no namespaces"


def _join(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
