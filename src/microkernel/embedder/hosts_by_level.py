"""The hosts of one kernel: one for each level, created when a plugin first needs it."""

from __future__ import annotations

import threading
import time
from functools import partial
from importlib import import_module

from microkernel.errors import IsolationUnavailable
from microkernel.kernel.assembly import Announce, Hosts
from microkernel.kernel.manifest import LEVELS, Level
from microkernel.kernel.ports import Availability, Host
from microkernel.kernel.runtime.reactor import Reactor

# The extra that has the host of a level, where its name is not the level's.
_EXTRAS = {"wasm": "wasm"}
_REFUSED_FOR = 1.0


class HostsByLevel:
    """May be called from any thread."""

    def __init__(self, name: str, python: str) -> None:
        """``name`` is the kernel's; ``python`` is the interpreter that workers run."""
        self._name = name
        self._python = python
        self._hosts: dict[Level, Host] = {}
        self._refused: dict[Level, tuple[float, IsolationUnavailable]] = {}
        self._lock = threading.Lock()

    def bind(self, reactor: Reactor, announce: Announce) -> Hosts:
        """Return a function that returns the host of a level. It raises IsolationUnavailable."""
        return partial(self._host, reactor, announce)

    def available(self, reactor: Reactor, announce: Announce) -> dict[str, Availability]:
        """Return the availability of each level. ``error`` is None if the level can be used."""
        result: dict[str, Availability] = {}
        for level in LEVELS:
            try:
                result[level] = self._host(reactor, announce, level).available()
            except IsolationUnavailable as error:
                result[level] = Availability("", error)
        return result

    def close(self) -> None:
        """Close all hosts. Those that are needed afterwards are created again."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    def _host(self, reactor: Reactor, announce: Announce, level: Level) -> Host:
        with self._lock:
            if level not in self._hosts:
                self._hosts[level] = self._new_host(reactor, announce, level)
            return self._hosts[level]

    def _new_host(self, reactor: Reactor, announce: Announce, level: Level) -> Host:
        """Create the host of a level.

        A refusal is remembered for ``_REFUSED_FOR`` seconds, because an interpreter that hangs takes long to fail, and
        several plugins ask at the same time.
        """
        until, refusal = self._refused.get(level, (0.0, None))
        if refusal is not None and time.monotonic() < until:
            raise refusal.with_traceback(None)
        try:
            return self._make_host(reactor, announce, level)
        except IsolationUnavailable as error:
            self._refused[level] = (time.monotonic() + _REFUSED_FOR, error)
            raise

    def _make_host(self, reactor: Reactor, announce: Announce, level: Level) -> Host:
        try:
            module = import_module(f"microkernel.hosts.{level}")
        except ModuleNotFoundError as missing:
            if missing.name != f"microkernel.hosts.{level}":
                raise IsolationUnavailable("MK0510", extra=_EXTRAS.get(level, level)) from None
            raise IsolationUnavailable("MK0501", level=level, reason="it is not built yet") from None
        make = getattr(module, f"{level.title()}Host")
        host: Host = make(reactor, name=self._name, python=self._python, announce=announce)
        if (error := host.available().error) is not None:
            host.close()
            raise error
        return host
