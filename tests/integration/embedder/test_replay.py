"""``kernel.replay`` and ``kernel.replay_all``: dead letters are delivered again, and none is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import BadTopic, MailboxFull, PluginNotFound
from tests.harness.waiting import eventually

FRAGILE = """
from microkernel import IPlugin, expose, on


class Plugin(IPlugin):
    broken = True
    seen = []

    def start(self) -> None: ...

    @expose
    def mend(self) -> None:
        type(self).broken = False

    @expose
    def handled(self) -> list:
        return self.seen

    @on("work.*")
    def work(self, n: int) -> None:
        if self.broken:
            raise RuntimeError("broken")
        self.seen.append(n)
"""
BUSY = """
import threading
from microkernel import IPlugin, expose, on

GATE = threading.Event()


class Plugin(IPlugin):
    def start(self) -> None: ...

    @on("work.*", overflow="reject")
    def work(self, n: int) -> None:
        GATE.wait(30)
"""


def _plugin(folder: Path, name: str, source: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(source)
    return path


def test_all_that_match_are_delivered_again_in_order(tmp_path: Path) -> None:
    with Kernel(_plugin(tmp_path, "fragile", FRAGILE), {"isolation": "thread"}) as kernel:
        for n in range(4):
            kernel.emit(f"work.{'odd' if n % 2 else 'even'}", n=n)
        eventually(lambda: len(kernel.dead_letters()) == 4)
        kernel.call("fragile.mend")
        assert kernel.replay_all("fragile", since=time.time() + 60).replayed == 0
        done = kernel.replay_all("fragile", topic="work.odd")
        assert (done.replayed, done.left) == (2, 0)
        assert kernel.call("fragile.handled") == [1, 3]
        assert kernel.replay_all().replayed == 2
        assert kernel.call("fragile.handled") == [1, 3, 0, 2]
        assert kernel.dead_letters() == []
        with pytest.raises(PluginNotFound):
            kernel.replay_all("nobody")
        with pytest.raises(BadTopic):
            kernel.replay_all(topic="a..b")


def test_a_letter_for_a_full_mailbox_stays(tmp_path: Path) -> None:
    source = "# /// script\n# [tool.microkernel]\n# limits = { mailbox = 2 }\n# ///\n" + BUSY
    with Kernel(_plugin(tmp_path, "busy", source), {"isolation": "thread"}) as kernel:
        for n in range(300):
            kernel.emit("work.now", n=n)
        letters = eventually(kernel.dead_letters)
        with pytest.raises(MailboxFull):
            kernel.replay(letters[0]["id"])
        assert kernel.replay_all("busy").replayed == 0
        assert letters[0]["id"] in {letter["id"] for letter in kernel.dead_letters()}
        kernel.kill("busy")
