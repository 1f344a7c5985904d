"""The native core's runner against the dispatcher that it stands for: both send the same messages."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from microkernel.sdk.binding.handlers import Handlers
from microkernel.sdk.client.buffers import BufferExchange
from microkernel.sdk.process_copies import is_instance
from microkernel.sdk.request_context import IDLE, NO_SLOT, current
from microkernel.sdk.runtime.dispatcher import NATIVE_RUNNER, Dispatcher
from microkernel.wire import codec, messages
from microkernel.wire.codec import Raw
from microkernel.wire.messages import EMPTY_LIST, EMPTY_MAP, Deliver, Done, Envelope, Invoke, Message
from microkernel.wire.secrets import Secrets

pytestmark = pytest.mark.skipif(NATIVE_RUNNER is None, reason="the native core is not installed")
VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
FAR = 1e12


def _no(*_: object) -> Any:
    raise AssertionError("there are no buffers")


class Channel:
    """Records what is sent."""

    memory = direct = None
    lane_descriptors = ()

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def reply(self, reply: messages.Response, lane: int) -> None:
        self.sent.append((reply, lane))

    def receive(self, timeout: float | None) -> Sequence[Message]:
        return ()

    receive_control = receive


class Subject:
    """Handlers and methods of every kind."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def tick(self, number: int) -> None:
        work = current.get()
        self.seen.append((number, work.id, work.deadline, work.slot, VARIABLE.get()))
        VARIABLE.set(number)

    def fail(self) -> None:
        raise ValueError("it failed")

    def chained(self) -> None:
        try:
            self.fail()
        except ValueError as error:
            raise KeyError("later") from error

    def echo(self, value: Any = None) -> Any:
        self.seen.append((value, current.get().chain))
        return value

    def typed(self, number: int) -> Decimal:
        return Decimal(number)

    def unsendable(self) -> object:
        return object()

    def large(self) -> bytes:
        return bytes(codec.MAX_PAYLOAD + 1)

    def coroutine(self) -> Any:
        return self.later()

    async def later(self) -> None:
        """Never runs."""


def run(natively: bool, received: Sequence[Message]) -> tuple[list[Any], list[Any], list[int]]:
    is_instance()
    subject, channel, handlers = Subject(), Channel(), Handlers()
    exchange = BufferExchange(None, _no, _no)
    dispatcher = Dispatcher(channel, handlers, exchange, "p", __file__.rpartition("/")[0], Secrets())
    for function in (subject.tick, subject.fail, subject.chained):
        handlers.add("a.b", function, once=False, overflow="block", board=False)
    for name in ("echo", "fail", "typed", "unsendable", "large", "coroutine", "later"):
        handlers.expose(getattr(subject, name), None)
    handlers.expose(divmod, "divmod")
    dispatcher.next(0.0)
    if natively:
        NATIVE_RUNNER.run(dispatcher, received)
    else:
        for message in received:
            dispatcher.handle(message)
    dispatcher.flush()
    assert not dispatcher._calls or "later" in str(dispatcher._calls)
    return merged(channel.sent), subject.seen, dispatcher.not_started()


def event(seq: int, handler: int = 1, *, reply_to: int = 0, **data: Any) -> Deliver:
    envelope = codec.encode(Envelope(seq, "a.b", "c", 1.5, Raw(codec.encode(data))))
    return Deliver(seq, handler, 1, Raw(envelope), reply_to, FAR)


def call(id: int, method: str, *args: Any, deadline: float = FAR, lane: int = 2, **kwargs: Any) -> Invoke:
    encoded = Raw(codec.encode(args)) if args else EMPTY_LIST
    return Invoke(id, method, encoded, Raw(codec.encode(kwargs)) if kwargs else EMPTY_MAP, deadline, ["x"], lane)


def merged(sent: Sequence[Any]) -> list[Any]:
    """Return what was sent, with successive Dones as one: how many there are depends on the time."""
    whole: list[Any] = []
    for each in sent:
        if isinstance(each, Done) and whole and isinstance(whole[-1], Done):
            whole[-1] = Done([*whole[-1].seqs, *each.seqs])
        else:
            whole.append(each)
    return whole


def plain(sent: Any) -> Any:
    return codec.decode(codec.encode(sent))


CASES: dict[str, Callable[[], list[Message]]] = {
    "events": lambda: [event(n, number=n) for n in range(200)],
    "events that do not fit": lambda: [event(1, number="x"), event(2), event(3, number=3), event(4, 9, number=1)],
    "handlers that raise": lambda: [event(1, 2), event(2, 3), event(3, number=1)],
    "asked handlers": lambda: [event(1, reply_to=5, number=1), event(2, 2, reply_to=6)],
    "calls": lambda: [call(1, "echo", {"a": [1]}), call(2, "echo"), call(3, "echo", value=1), call(4, "typed", 7)],
    "calls that fail": lambda: [call(1, "fail"), call(2, "unsendable"), call(3, "coroutine"), call(4, "none")],
    "calls that do not fit": lambda: [call(1, "echo", 1, 2), call(2, "typed", "x"), call(3, "echo", other=1)],
    "builtins": lambda: [call(1, "divmod", 7, 2), call(2, "divmod", 7, 0), call(3, "divmod")],
    "late calls": lambda: [call(1, "echo", deadline=time.monotonic() - 1)],
    "too large": lambda: [call(1, "large"), call(2, "echo", "x" * 70_000)],
    "others": lambda: [messages.Ping(3), event(1, number=1), call(1, "echo"), messages.Cancel(1), messages.Credit(1)],
    "after a stop": lambda: [event(1, number=1), messages.Stop(), event(2, number=2), call(3, "echo")],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_both_send_the_same(name: str) -> None:
    received = CASES[name]()
    assert plain(run(True, received)) == plain(run(False, received))
    assert IDLE.slot == NO_SLOT
    assert VARIABLE.get() == 0


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt()])
def test_exceptions_that_end_a_program_are_passed_on(leaving: BaseException) -> None:
    def leave() -> None:
        raise leaving

    channel, handlers = Channel(), Handlers()
    dispatcher = Dispatcher(channel, handlers, BufferExchange(None, _no, _no), "p", "", Secrets())
    handlers.expose(leave, None)
    dispatcher.next(0.0)
    with pytest.raises(type(leaving)):
        NATIVE_RUNNER.run(dispatcher, [call(1, "leave"), call(2, "leave")])
    assert not channel.sent
    assert current.get() is IDLE


def test_a_cancel_reaches_a_function_that_polls() -> None:
    channel, handlers, seen = Channel(), Handlers(), []
    dispatcher = Dispatcher(channel, handlers, BufferExchange(None, _no, _no), "p", "", Secrets())

    def wait() -> None:
        dispatcher.handle(messages.Cancel(1))
        seen.append(current.get().cancelled)

    handlers.expose(wait, None)
    dispatcher.next(0.0)
    NATIVE_RUNNER.run(dispatcher, [call(1, "wait")])
    assert seen == [True]
