"""Mailboxes: order, overflow, dead letters and replay."""

from __future__ import annotations

from microkernel.errors import KernelError
from microkernel.kernel.config import KernelConfig
from microkernel.testing.harness import Workspace, expect_error, plugin

FAULTY = plugin(
    """
    mended = False
    count = 0
    @on("x")
    def work(self, number: int) -> None:
        self.count += 1
        if not self.mended and number < 0:
            raise ValueError(f"below zero: {number}")
        self.api.emit("out.worked", number=number)
    @expose
    def mend(self) -> int:
        self.mended = True
        return self.count
    """
)


def check_a_handler_that_raises_makes_a_dead_letter(workspace: Workspace) -> None:
    """A handler that raises is logged, and its event becomes a dead letter with reason and location; no retry, no
    restart, and the next event is handled."""
    with workspace.run(faulty=FAULTY) as harness:
        for number in (1, -1, 2):
            harness.kernel.emit("x", number=number)
        assert harness.received("worked", 2) == [{"number": 1}, {"number": 2}]
        (letter,) = harness.until_dead_letters(1, "faulty")
        assert (letter["plugin"], letter["topic"], letter["source"]) == ("faulty", "x", "kernel")
        assert (letter["handler"], letter["delivery"], letter["data"]) == ("Plugin.work", 1, {"number": -1})
        assert "ValueError: below zero: -1" in letter["reason"]
        assert "faulty.py" in letter["reason"]
        assert harness.call("faulty.mend") == 3
        info = harness.info("faulty")
        assert (info.state, info.generation, info.restarts, info.dead) == ("active", 1, 0, 1)


def check_what_does_not_fit_is_a_dead_letter(workspace: Workspace) -> None:
    """An event that does not fit the type hints never reaches the handler; the dead letter's reason has the path."""
    with workspace.run(faulty=FAULTY) as harness:
        for data in ({"number": "seven"}, {}, {"number": 2.5}, {"number": None}):
            harness.kernel.emit("x", **data)
        reasons = [letter["reason"] for letter in harness.until_dead_letters(4)]
        assert all("number" in reason for reason in reasons), reasons
        assert harness.call("faulty.mend") == 0


def check_replay_gives_a_dead_letter_again(workspace: Workspace) -> None:
    """``replay`` delivers a dead letter to its handler again and removes it."""
    with workspace.run(faulty=FAULTY) as harness:
        harness.kernel.emit("x", number=-5)
        (letter,) = harness.until_dead_letters(1)
        harness.kernel.replay(letter["id"])  # still faulty: it becomes a new dead letter
        letters = harness.kernel.dead_letters
        harness.until(lambda: [one["id"] for one in letters()] not in ([], [letter["id"]]), "a new letter")
        (again,) = harness.kernel.dead_letters()
        harness.call("faulty.mend")
        assert harness.kernel.replay(again["id"]) is True
        assert harness.received("worked", 1) == [{"number": -5}]
        assert harness.kernel.dead_letters() == []
        assert expect_error(KernelError, harness.kernel.replay, again["id"]).id == "MK0614"


LISTENER = plugin(
    """
    def start(self) -> None:
        self.got = []
    @on("n")
    def event(self, i: int) -> None:
        self.got.append(i)
    @expose
    def method(self, i: int) -> None:
        self.got.append(i)
    @expose
    def count(self) -> int:
        return len(self.got)
    @expose
    def take(self) -> list:
        got, self.got = self.got, []
        return got
    """
)
SPEAKER = plugin(
    """
    @expose
    def speak(self, count: int) -> None:
        for i in range(count):
            if i % 7:
                self.api.emit("n", i=i)
            else:
                self.api.call("listener.method", i=i, timeout=30)
    @expose
    def burst(self, count: int) -> None:
        for i in range(count):
            self.api.emit("n", i=i)
    """
)


def check_first_in_first_out(workspace: Workspace) -> None:
    """Events and calls from one sender to one receiver keep their order, from the embedder and from a plugin."""
    with workspace.run(listener=LISTENER, speaker=SPEAKER) as harness:
        for i in range(500):
            if i % 7:
                harness.kernel.emit("n", i=i)
            else:
                harness.call("listener.method", i=i)
        assert harness.call("listener.take") == list(range(500))
        harness.call("speaker.speak", 500)
        # Events of two senders have no order between them, so the speaker starts after the embedder's are handled.
        harness.until(lambda: harness.call("listener.count") == 500)
        assert harness.call("listener.take") == list(range(500))


def check_first_in_first_out_through_a_full_mailbox(workspace: Workspace) -> None:
    """A call does not overtake events of its sender that wait for space."""
    config = KernelConfig(limits={"mailbox": 5, "full_mailbox_timeout": 30.0})
    with workspace.run(config, listener=LISTENER, speaker=SPEAKER) as harness:
        harness.call("speaker.speak", 700)
        harness.until(lambda: harness.call("listener.count") == 700, "700 events and calls")
        assert harness.call("listener.take") == list(range(700))


def check_nothing_is_lost_in_a_flood(workspace: Workspace) -> None:
    """With ``block``, a sender waits for space in a small mailbox; all events arrive, in order."""
    config = KernelConfig(limits={"mailbox": 100, "full_mailbox_timeout": 30.0})
    with workspace.run(config, listener=LISTENER, speaker=SPEAKER) as harness:
        for i in range(3000):
            harness.kernel.emit("n", i=i)
        assert harness.call("listener.take") == list(range(3000))
        harness.call("speaker.burst", 6000)
        harness.until(lambda: harness.call("listener.count") == 6000, "6000 events")
        assert harness.call("listener.take") == list(range(6000))
        assert harness.kernel.dead_letters() == []


CLOGGED = """
    def start(self) -> None:
        self.got = []
        self.api.on("n", self.hear, overflow=%r)
    def hear(self, i: int) -> None:
        if i == 0:
            self.api.emit("out.begun")
            self.hold("go")
        self.got.append(i)
    @expose
    def take(self) -> list:
        return self.got
"""
_ROOM, _MANY = 2000, 3000


def _overflown(workspace: Workspace, overflow: str, block: float = 30.0) -> tuple[list[int], int, int]:
    """Return the events that arrive while the handler blocks in the first, the number of dropped ones, and the dead
    letters."""
    config = KernelConfig(limits={"mailbox": _ROOM, "full_mailbox_timeout": block})
    with workspace.run(config, p=plugin(CLOGGED % overflow)) as harness:
        harness.kernel.emit("n", i=0)
        harness.received("begun", 1)
        for i in range(1, _ROOM + 3 if overflow == "block" else _MANY):
            harness.kernel.emit("n", i=i)
        harness.release("go")
        harness.until(lambda: harness.info("p").waiting == 0, "an empty mailbox")
        got = harness.call("p.take")
        dead = harness.info("p").dead
        assert all("MailboxFull" in one["reason"] or "MK0609" in one["reason"] for one in harness.kernel.dead_letters())
        return got, harness.info("p").dropped, dead


def check_overflow_drop_oldest(workspace: Workspace) -> None:
    """``drop_oldest`` drops the oldest event for the newest, and counts it."""
    got, dropped, dead = _overflown(workspace, "drop_oldest")
    assert got == sorted(got)
    assert (got[0], got[-1]) == (0, _MANY - 1)
    assert len(got) + dropped == _MANY
    assert (dropped > 0, dead) == (True, 0)


def check_overflow_drop_newest(workspace: Workspace) -> None:
    """``drop_newest`` drops events that arrive at a full mailbox, and counts them."""
    got, dropped, dead = _overflown(workspace, "drop_newest")
    assert got == list(range(len(got)))
    assert len(got) + dropped == _MANY
    assert (dropped > 0, dead) == (True, 0)


def check_overflow_reject(workspace: Workspace) -> None:
    """``reject`` makes events that arrive at a full mailbox dead letters with the reason MailboxFull."""
    got, dropped, dead = _overflown(workspace, "reject")
    assert got == list(range(len(got)))
    assert (len(got) + dead, dropped) == (_MANY, 0)


def check_overflow_block_ends_in_a_dead_letter(workspace: Workspace) -> None:
    """After the time limit of ``block``, the event is a dead letter with MailboxFull; the emitter continues."""
    got, dropped, dead = _overflown(workspace, "block", block=0.05)
    assert got == list(range(_ROOM))
    assert (dead, dropped) == (3, 0)


def check_ones_own_full_mailbox_is_reject(workspace: Workspace) -> None:
    """A plugin that floods its own mailbox does not wait for itself: events without space are dead letters."""
    body = """
    count = 0
    @expose
    def flood(self, many: int) -> None:
        for i in range(many):
            self.api.emit("n", i=i)
    @on("n")
    def hear(self, i: int) -> None:
        self.count += 1
    @expose
    def counted(self) -> int:
        return self.count
    """
    config = KernelConfig(limits={"mailbox": 100, "full_mailbox_timeout": 30.0})
    with workspace.run(config, p=plugin(body)) as harness:
        harness.call("p.flood", 500)
        harness.until(lambda: harness.call("p.counted") + harness.info("p").dead == 500, "500 accounted for")
        assert harness.info("p").dead >= 400
