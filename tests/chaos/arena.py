"""The kernel on trial, its thirty plugins, and what is done to them; all of it leaves evidence."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from microkernel import Kernel
from microkernel.errors import KernelError
from microkernel.kernel.config import KernelConfig
from microkernel.kernel.ports import Reactor
from microkernel.kernel.registry.instance import Instance
from tests.chaos.evidence import Evidence
from tests.chaos.plugins import Role, cast

DOWN = ("stopped", "failed", "quarantined", "zombie")
"""States in which a plugin does not listen."""
_IN_DOUBT = 1.0
"""Seconds after which what does not come up may have a bad source, of a reload that found nothing running."""
PATIENCE = 60.0
"""Seconds after which what must happen is said not to happen."""


# The method without an arena: a process may have several arenas, one after the other, and other tests.
_disconnect = Instance.disconnect


class Arena:
    """What every thread of the harness has in common."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "plugins"
        self.folder.mkdir(parents=True)
        self.evidence = Evidence(folder / "evidence")
        self.roles = cast()
        self.kernel = self._kernel(folder)
        self.counts: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        """How often the kernel said each of its messages."""
        self._over = threading.Event()
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._operations: Counter[str] = Counter()
        self._down: dict[str, float] = {}

    def _kernel(self, folder: Path) -> Kernel:
        for role in self.roles.values():
            Path(self.path(role)).write_text(self.source(role))
        config = KernelConfig(
            min_isolation="thread", data_dir=str(folder / "data"), limits={"full_mailbox_timeout": 0.3}
        )
        return Kernel(self.folder, config=config)

    def path(self, role: Role) -> str:
        return str(self.folder / f"{role.name}.py")

    def source(self, role: Role) -> str:
        return role.source(self.evidence.path, self.evidence.descriptor)

    def listen(self, kernel: Kernel) -> None:
        """Hear what the kernel says, at the moment it says it."""
        kernel.on("ledger.**", self._arrived, inline=True)
        kernel.on("kernel.state", self._changed, inline=True)
        kernel.on("kernel.message", self._told, inline=True)

    @contextmanager
    def hear_decisions(self) -> Iterator[None]:
        """Note when the kernel decides to end an instance: its later messages do not count."""

        def decided(instance: Instance, reactor: Reactor) -> None:
            self.cut(instance.name, instance.generation, time.monotonic())
            _disconnect(instance, reactor)

        Instance.disconnect = decided  # type: ignore[method-assign]
        try:
            yield
        finally:
            Instance.disconnect = _disconnect  # type: ignore[method-assign]

    def _arrived(self, id: str) -> None:
        self.evidence.tell("arrived", "harness", 0, id)

    def _changed(self, plugin: str, state: str) -> None:
        if state in DOWN:
            self._down[plugin] = time.monotonic()

    def _told(self, id: str) -> None:
        self.said[id] += 1

    # Time

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def begin(self) -> None:
        self._over.clear()

    def end(self) -> None:
        self._over.set()

    def pause(self, seconds: float) -> None:
        self._over.wait(seconds)

    # Deeds

    def emit(self, topic: str, /, **data: Any) -> None:
        id = f"h{next(self._numbers)}"
        self.evidence.tell("emitting", "harness", 0, id, topic)
        self.kernel.emit(topic, id=id, **data)
        self.evidence.tell("emitted", "harness", 0, id)

    def call(self, target: str, timeout: float, /, **more: Any) -> str:
        """The outcome."""
        id, outcome = f"h{next(self._numbers)}", "value"
        self.evidence.tell("calling", "harness", 0, id, timeout)
        try:
            if self.kernel.call(f"{target}.work", id, timeout=timeout, **more) != f"{id}!":
                outcome = "wrong"
        except KernelError as error:
            outcome = type(error).__name__
        self.evidence.tell("called", "harness", 0, id, outcome)
        return outcome

    @contextmanager
    def by_hand(self, role: Role, *, certainly: bool = False) -> Iterator[None]:
        """Something that may take a plugin down. Afterwards it is up again; and if it was down, or ``certainly``, it is
        known not to have listened meanwhile."""
        since = time.monotonic()
        self._operate(role, 1)
        try:
            yield
        finally:
            self.bring_up(role)
            if certainly or self._down.get(role.name, 0.0) >= since:
                self.evidence.tell("absent", role.name, 0, since)
            self._operate(role, -1)

    def were_absent_since(self, since: float) -> None:
        """None of the plugins is known to have listened before now."""
        for name in self.roles:
            self.evidence.tell("absent", name, 0, since)

    def _operate(self, role: Role, more: int) -> None:
        with self._lock:
            self._operations[role.name] += more

    def bring_up(self, role: Role) -> None:
        began = time.monotonic()
        while (info := self.kernel.info(role.name)).state != "active":
            waited = time.monotonic() - began
            if waited > PATIENCE:
                return self.trouble(role.name, f"is {info.state} and does not come up: {info.error}")
            if info.state in DOWN:
                self._try(partial(self.kernel.start, role.name, reset=True))
            elif waited > _IN_DOUBT:
                self._try(partial(self.kernel.reload, role.name))
            time.sleep(0.01)
        return None

    def _try(self, deed: Callable[[], object]) -> None:
        try:
            deed()
        except KernelError:
            self.counts["starts refused"] += 1
            time.sleep(0.01)

    def look_for_strays(self) -> None:
        """A plugin that is down without anybody's doing."""
        for role in self.roles.values():
            before = self._doings(role)
            info = self.kernel.info(role.name)
            if info.state in DOWN and before[0] == 0 and self._doings(role) == before:
                self.trouble(role.name, f"is {info.state}, and nobody did it: {info.error}")
                with self.by_hand(role, certainly=True):
                    pass

    def _doings(self, role: Role) -> tuple[int, float | None]:
        return self._operations[role.name], self._down.get(role.name)

    # What is noted

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def fault(self, kind: str, role: Role) -> None:
        self.evidence.tell("fault", role.name, 0, kind.replace(" ", "_"))

    def cut(self, name: str, generation: int, since: float) -> None:
        self.evidence.tell("cut", name, generation, since)

    def trouble(self, who: str, text: str) -> None:
        self.evidence.tell("trouble", who, 0, " ".join(text.split()))
