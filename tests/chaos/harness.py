"""Drives the chaos: sends, calls, strikes, mends, and asks the kernel how it is; then looks what is left."""

from __future__ import annotations

import os
import threading
import time
import traceback
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from microkernel.errors import KernelError
from tests.chaos import evidence, traffic
from tests.chaos.arena import PATIENCE, Arena
from tests.chaos.faults import FAULTS
from tests.chaos.ledger import Ledger, Verdict
from tests.chaos.plugins import audience
from tests.chaos.processes import Look, look
from tests.chaos.watch import watched
from tests.harness.leftovers import descendants
from tests.security.attacks.support import eventually

PROBES = 0.05
"""Seconds between two questions to the kernel."""
PROBE_TIMEOUT = 5.0


@dataclass(slots=True)
class Result:
    """``before`` there was a kernel; at the ``start``, after a warm-up; at the ``end``, all plugins up again; ``after``
    the kernel was closed. ``answers``: seconds that each kind of question took."""

    seed: int
    seconds: float
    verdict: Verdict
    before: Look
    start: Look
    end: Look
    after: Look
    left: list[str]
    counts: Counter[str]
    said: Counter[str]
    answers: dict[str, array[float]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each; empty when all is as it should be."""
        left = [f"left: {process}" for process in self.left]
        for what, before, after in (
            ("threads before and after", self.before.threads, self.after.threads),
            ("instances before and after", self.before.instances, self.after.instances),
            ("descriptors before and after", self.before.descriptors, self.after.descriptors),
            ("descriptors at start and end", self.start.descriptors, self.end.descriptors),
            ("threads at start and end", self.start.threads, self.end.threads),
            ("processes at start and end", self.start.processes, self.end.processes),
        ):
            left += [f"leak: {before} and {after} {what}"] * (before != after)
        return [*self.verdict.problems, *left]


class Harness:
    """One chaos run. ``seed`` decides the faults and their targets; their timing depends on the machine."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.arena = Arena(folder)
        self.answers = {what: array("d") for what in ("kernel.list", "thread-healthy", "process-healthy")}
        self._drained: Counter[str] = Counter()
        self._phase = 0

    def run(self, seconds: float, warm_up: float) -> Result:
        arena, before, ours = self.arena, look(), descendants(os.getpid())
        began = time.monotonic()
        with watched(arena.trouble), arena.hear_decisions(), closing(arena.kernel):
            arena.kernel.open(ready=arena.listen)
            arena.were_absent_since(began)  # who starts first may send before others listen
            self._chaos(warm_up)
            start = self._look()
            self._chaos(seconds)
            end = self._look()
            self._close_books()
        del arena.kernel  # closed, and held by nobody
        after = look()
        left = [line for pid, line in descendants(os.getpid()).items() if pid not in ours]
        arena.evidence.close()
        took = time.monotonic() - began
        return Result(
            self.seed, took, self._judge(), before, start, end, after, left, arena.counts, arena.said, self.answers
        )

    def _chaos(self, seconds: float) -> None:
        """Chaos for some seconds; afterwards everything is up, and every mailbox empty."""
        self._phase += 1
        self.arena.begin()
        work = [self._emit] * 2 + [self._call] * 3 + [self._strike] * 3 + [self._probe, self._mend, self._drain]
        threads = [threading.Thread(target=self._safely, args=(each, number)) for number, each in enumerate(work)]
        for thread in threads:
            thread.start()
        self.arena.pause(seconds)
        self.arena.end()
        for thread in threads:
            thread.join()
        self._settle()

    def _safely(self, work: Callable[[Random], object], number: int) -> None:
        rng = Random(f"{self.seed} {self._phase} {number}")
        try:
            while not self.arena.is_over:
                work(rng)
        except Exception:
            self.arena.trouble("harness", traceback.format_exc())
            self.arena.end()

    # What the threads do, again and again

    def _emit(self, rng: Random) -> None:
        do, more = traffic.anything(self.arena.roles, rng)
        self.arena.emit(traffic.topic_of(self.arena.roles, rng), do=do, **more)
        self.arena.pause(rng.expovariate(100))

    def _call(self, rng: Random) -> None:
        target = rng.choice([*self.arena.roles])
        do, more = traffic.anything(self.arena.roles, rng)
        self.arena.call(target, rng.choice([0.1, 0.5, 2.0]), do=do, **more)
        self.arena.pause(rng.expovariate(50))

    def _strike(self, rng: Random) -> None:
        fault = rng.choices(FAULTS, [each.weight for each in FAULTS])[0]
        role = rng.choice([role for role in self.arena.roles.values() if fault.fits(role)])
        self.arena.fault(fault.kind, role)
        try:
            fault.strike(self.arena, role, rng)
        except KernelError as error:
            self.arena.count(f"strikes refused: {type(error).__name__}")
        self.arena.pause(rng.expovariate(3))

    def _probe(self, _rng: Random) -> None:
        began = time.perf_counter()
        self.arena.kernel.list()
        self.answers["kernel.list"].append(time.perf_counter() - began)
        for healthy in ("thread-healthy", "process-healthy"):
            began = time.perf_counter()
            outcome = self.arena.call(healthy, PROBE_TIMEOUT)
            self.answers[healthy].append(time.perf_counter() - began)
            if outcome not in ("value", "PluginDied"):  # it dies with the zygote
                self.arena.trouble(healthy, f"was called and gave {outcome}")
        self.arena.pause(PROBES)

    def _mend(self, _rng: Random) -> None:
        self.arena.look_for_strays()
        self.arena.pause(0.2)

    def _drain(self, _rng: Random) -> None:
        self._bury()
        self.arena.pause(0.05)

    def _bury(self) -> None:
        """Take the dead letters out before there are more than are kept."""
        for letter in self.arena.kernel.dead_letters():
            self.arena.evidence.tell("dead", letter["plugin"], 0, letter["data"]["id"])
            self._drained[letter["plugin"]] += 1
            self.arena.kernel.call("kernel.drop", letter["id"])

    # The end

    def _look(self) -> Look:
        """Look at this process without the descriptors of direct channels, of which there may be any number: one for
        each, and one for the page of each callee."""
        seen, records = look(), list(self.arena.kernel.core.registry)
        instances = [record.instance for record in records if record.instance is not None]
        channels = sum(len(instance.routes) for instance in instances)
        pages = sum(getattr(instance.runner, "_waiting", None) is not None for instance in instances)
        return replace(seen, descriptors=seen.descriptors - channels - pages)

    def _settle(self) -> None:
        try:
            eventually(self._is_quiet, "all plugins are up and their mailboxes empty", PATIENCE)
        except AssertionError:
            self.arena.trouble("kernel", f"holds {self._present()} instances of {len(self.arena.roles)} plugins")
            for info in self.arena.kernel.list():
                if info.state != "active" or info.waiting:
                    self.arena.trouble(info.name, f"is {info.state} with {info.waiting} letters at the end")

    def _is_quiet(self) -> bool:
        """Also the timers of instances that are no more have run out, and let go of them."""
        self._bury()
        if self._present() > len(self.arena.roles):
            return False
        return all(info.state == "active" and not info.waiting for info in self.arena.kernel.list())

    def _present(self) -> int:
        """Instances, without the few ended ones of each plugin that wait to be asked what they left."""
        return look().instances - sum(len(record.previous_instances) for record in self.arena.kernel.core.registry)

    def _close_books(self) -> None:
        """Nobody sends any more; the rest is handled; then what the kernel counted is written down."""
        arena = self.arena
        for role in arena.roles.values():
            if role.kind.beat:
                since = time.monotonic()
                arena.kernel.stop(role.name)
                arena.evidence.tell("absent", role.name, 0, since)
        eventually(lambda: not any(info.waiting for info in arena.kernel.list()), "all is handled", PATIENCE)
        self._bury()
        for info in arena.kernel.list():
            arena.evidence.tell("dropped", info.name, 0, info.dropped)
            arena.evidence.tell("last", info.name, info.generation)
            if info.dead != self._drained[info.name]:
                arena.trouble(info.name, f"{info.dead} dead letters were counted, {self._drained[info.name]} seen")

    def _judge(self) -> Verdict:
        roles = self.arena.roles
        ledger = Ledger(audience(roles), {name: role.kind.overflow for name, role in roles.items()})
        for fact in evidence.read(self.arena.evidence.path):
            ledger.read(fact)
        return ledger.verdict()
