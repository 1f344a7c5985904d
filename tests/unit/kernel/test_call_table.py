"""The table of calls: whatever ends a call ends it once, and leaves nothing behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from microkernel.errors import KernelError
from microkernel.kernel.messaging.delivery import CallDelivery
from microkernel.kernel.messaging.mailbox import Mailbox
from microkernel.kernel.messaging.mailbox_owner import Counts
from microkernel.kernel.messaging.quota import PendingTable
from microkernel.kernel.routing.call_table import ABANDONED, COLLECTED, CallTable, PendingCall
from microkernel.kernel.routing.service_queue import ServiceQueue
from microkernel.wire.messages import Call, Cancel, Message, Response


class Plugin:
    """As much of a record as the table needs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mailbox = Mailbox(10)
        self.counts = Counts()
        self.incoming: PendingTable[Any] = PendingTable()
        self.outgoing: dict[int, None] = {}
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)


class Timer:
    def __init__(self) -> None:
        self.due: list[Any] = []
        self.cancelled = 0

    def later(self, _seconds: float, work: Any) -> Any:
        self.due.append(work)
        return self._cancel

    def _cancel(self) -> None:
        self.cancelled += 1

    def post(self, work: Any) -> None:
        work()


class Scene:
    def __init__(self) -> None:
        self.timer, clock = Timer(), SimpleNamespace(now=lambda: 0.0)
        self.calls = CallTable(self.timer, clock)  # type: ignore[arg-type]
        self.caller, self.callee = Plugin("caller"), Plugin("callee")
        self.answers: list[Response] = []

    def call(self, *, is_sent: bool = True) -> PendingCall:
        """A call that its callee was given, and has started."""
        caller: Any = self.caller
        call = Call(7, "callee.m")
        pending = PendingCall(self.calls.next_id(), caller, self.callee, call, "m", self.answers.append)
        self.calls.add(pending)
        if is_sent:
            delivery = CallDelivery(pending.id, call, "m")
            self.calls.sending(pending, delivery)
            self.callee.mailbox.take_direct(delivery)
        return pending

    @property
    def left(self) -> tuple[int, int, int, int]:
        """What is in the table, with the callee, with the caller and in flight."""
        callee = self.callee
        return len(self.calls.pending), len(callee.incoming), len(self.caller.outgoing), callee.mailbox.in_flight


def die(scene: Scene) -> None:
    """As the cleanup has it: what was in flight is taken back, then its callers are failed."""
    callee: Any = scene.callee
    callee.mailbox.recover()
    scene.calls.drop_callee(callee, "it died")


def end(scene: Scene, id: int, how: str) -> None:
    callee: Any = scene.callee
    caller: Any = scene.caller
    {
        "reply": lambda: scene.calls.reply(callee, Response(id)),
        "deadline": lambda: scene.timer.due[0](),
        "death of the callee": lambda: die(scene),
        "collected": lambda: scene.calls.complete(id, COLLECTED),
        "cancelled": lambda: scene.calls.abandon(id),
        "death of the caller": lambda: scene.calls.drop_caller(caller),
    }[how]()


ENDS = ["reply", "deadline", "death of the callee", "collected", "cancelled", "death of the caller"]


@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("first", ENDS)
def test_call_completes_only_once(first: str, second: str) -> None:
    scene = Scene()
    pending = scene.call()
    scene.calls.set_deadline(pending, "callee", 5.0)
    callee: Any = scene.callee
    end(scene, pending.id, first)
    answered = len(scene.answers)
    assert answered == (first in ("reply", "deadline", "death of the callee"))
    end(scene, pending.id, second)
    assert len(scene.answers) == answered
    scene.calls.reply(callee, Response(pending.id))  # an abandoned call stays with its callee until this
    assert scene.left == (0, 0, 0, 0)
    assert scene.timer.cancelled == 1


def test_abandoned_call_stays_pending_and_its_callee_gets_a_cancel() -> None:
    scene = Scene()
    pending = scene.call()
    scene.calls.abandon_request(scene.caller, 8)  # type: ignore[arg-type]
    assert scene.left == (1, 1, 1, 1)
    scene.calls.abandon_request(scene.caller, 7)  # type: ignore[arg-type]
    assert scene.left == (0, 1, 0, 1)
    assert scene.callee.sent == [Cancel(pending.id)]
    assert pending.delivery is not None
    assert pending.delivery.message(Any) is None  # one that waits is not delivered any more


def test_unsent_call_leaves_nothing_pending_at_its_callee() -> None:
    scene = Scene()
    pending = scene.call(is_sent=False)
    assert scene.calls.complete(pending.id, ABANDONED) is pending
    assert scene.calls.complete(pending.id, ABANDONED) is None
    assert scene.left == (0, 0, 0, 0)


def test_only_the_callee_answers_a_call() -> None:
    scene = Scene()
    pending = scene.call()
    scene.calls.reply(Plugin("another"), Response(pending.id))
    assert (scene.answers, scene.left) == ([], (1, 1, 1, 1))


def test_first_answer_is_repeated_after_a_kill_before_the_removal() -> None:
    scene = Scene()
    pending = scene.call()

    class Killed(BaseException):
        pass

    def answer(reply: Response) -> None:
        scene.answers.append(reply)
        if len(scene.answers) == 1:
            raise Killed

    pending.answer = answer
    first = Response(pending.id)
    with pytest.raises(Killed):
        scene.calls.complete(pending.id, first)
    scene.calls.fail(pending.id, KernelError("MK0214", target="callee.m", name="callee", reason="killed"))
    assert scene.answers == [first, first]
    assert scene.left == (0, 0, 0, 0)


def test_early_service_call_waits_for_the_service() -> None:
    queue, served = ServiceQueue(), list[str]()
    queue.put(Call(1, "kernel.list"), print)
    queue.consume(lambda call, _answer: served.append(call.target))
    assert served == ["kernel.list"]
    queue.put(Call(2, "kernel.info"), print)
    assert served == ["kernel.list", "kernel.info"]
