"""What the hosts have in common whose instances are workers, forked from a zygote of their level."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from math import ceil
from typing import Any

from microkernel.errors import IsolationUnavailable
from microkernel.hosts._processes import raise_descriptor_limit
from microkernel.hosts._scratch import Scratch
from microkernel.hosts._worker_place import WorkerPlace
from microkernel.hosts._zygote import Zygote
from microkernel.kernel.manifest import Level
from microkernel.kernel.ports import Availability, Feed, LaunchSpec, Reactor, Uplink

_LIMITS = ("memory", "files", "file_size", "cpu")


class WorkerHost:
    """A level says with what request a worker is forked, and what place it is."""

    level: Level

    def __init__(self, reactor: Reactor, python: str = sys.executable, **_options: object) -> None:
        self._reactor = reactor
        self._python = python
        self._zygote = Zygote(reactor, self.level, python)
        self._scratch = self._make_scratch()
        raise_descriptor_limit()

    @property
    def zygote_pid(self) -> int | None:
        return self._zygote.pid

    def available(self) -> Availability:
        if not hasattr(os, "pidfd_open"):
            return self._missing("pidfd_open is missing (Linux 5.3 and Python 3.9 have it)")
        return Availability("zygote, pidfd, rlimits")

    def launch(self, spec: LaunchSpec, feed: Feed, uplink: Uplink) -> WorkerPlace:
        folder = self._scratch.folder(spec.load.name)
        try:
            request = self._request(spec, folder)
            place = self._place(spec, feed, uplink, folder)
        except BaseException:
            self._scratch.drop(folder)
            raise
        place.begin(self._zygote, request)
        return place

    def close(self) -> None:
        self._zygote.close()
        self._scratch.close()

    def _make_scratch(self) -> Scratch:
        return Scratch()

    def _request(self, spec: LaunchSpec, folder: str) -> dict[str, Any]:
        raise NotImplementedError

    def _place(self, spec: LaunchSpec, feed: Feed, uplink: Uplink, folder: str) -> WorkerPlace:
        return WorkerPlace(spec.load, feed, uplink, self._reactor, self._scratch, folder)

    @staticmethod
    def _limits(wanted: Mapping[str, float]) -> dict[str, int]:
        """As the system counts; 0 for none."""
        return {name: ceil(wanted.get(name, 0)) for name in _LIMITS}

    def _missing(self, reason: str) -> Availability:
        return Availability(reason, IsolationUnavailable("MK0501", level=self.level, reason=reason))
