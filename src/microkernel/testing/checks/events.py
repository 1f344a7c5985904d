"""Events: matching, parameters, replies, permissions."""

from __future__ import annotations

from typing import Any

from microkernel.errors import BadTopic, CallFailed, CallTimeout
from microkernel.sdk.event import Reply
from microkernel.testing.harness import Workspace, expect_error, plugin

EARS = plugin(
    """
    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        self.got = []
    @on("by.name")
    def by_name(self, order_id: int, currency="CNY", *, last: str = "z") -> None:
        self.got.append(["by_name", order_id, currency, last])
    @on("by.event")
    def by_event(self, event: Event, a: int) -> None:
        self.got.append(["by_event", event.topic, event.source, event.delivery, event.data, a,
                         type(event.id).__name__, type(event.time).__name__])
    @on("by.rest")
    def by_rest(self, a, event, **rest) -> None:
        self.got.append(["by_rest", a, rest, event.topic])
    @on("by.args")
    def by_args(self, *args) -> None:
        self.got.append(["by_args", len(args), args[0].data])
    @on("by.position")
    def by_position(self, event, /) -> None:
        self.got.append(["by_position", event.topic])
    @on("by.nothing")
    def by_nothing(self) -> None:
        self.got.append(["by_nothing"])
    @on("by.builtin")
    def by_builtin(self, event) -> None:
        self.got.append(["by_builtin", event.topic])
    @expose
    def take(self) -> list:
        got, self.got = self.got, []
        return got
    """
)


def check_parameters_are_filled_by_name(workspace: Workspace) -> None:
    """Parameters are filled by name, with defaults; ``event`` is the Event; ``**rest`` gets the remaining data; other
    keys are not passed."""
    with workspace.run(ears=EARS) as harness:
        emit = harness.kernel.emit
        emit("by.name", order_id=7, extra="not passed", last="y")
        emit("by.event", a=1, b=[2])
        emit("by.rest", a=1, b=2, c=3)
        emit("by.args", a=1)
        emit("by.position", a=1)
        emit("by.nothing", a=1)
        emit("by.builtin")
        assert harness.call("ears.take") == [
            ["by_name", 7, "CNY", "y"],
            ["by_event", "by.event", "kernel", 1, {"a": 1, "b": [2]}, 1, "int", "float"],
            ["by_rest", 1, {"b": 2, "c": 3}, "by.rest"],
            ["by_args", 1, {"a": 1}],
            ["by_position", "by.position"],
            ["by_nothing"],
            ["by_builtin", "by.builtin"],
        ]


def check_a_handler_without_a_signature_gets_the_event(workspace: Workspace) -> None:
    """A handler without a readable signature gets the Event: ``api.on(topic, print)`` and a bound ``list.append``
    work."""
    body = """
    def start(self) -> None:
        self.got = []
        self.api.on("x", print)
        self.api.on("x", self.got.append)
    @expose
    def count(self) -> list:
        return [type(item).__name__ for item in self.got]
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.kernel.emit("x", a=1)
        assert harness.call("p.count") == ["Event"]
        assert harness.kernel.dead_letters() == []


PATTERNS = ("a", "a.b", "a.*", "a.**", "*", "*.b", "**", "a.*.c", "a.*.**")


def check_wildcards(workspace: Workspace) -> None:
    """``*`` matches one word, ``**`` any tail of at least one word."""
    body = """
    def start(self) -> None:
        self.got = {}
        for pattern in %r:
            self.api.on(pattern, self.hearer(pattern))
    def hearer(self, pattern):
        def hear(event, **rest):
            self.got.setdefault(event.topic, []).append(pattern)
        hear.__qualname__ = f"hear {pattern}"
        return hear
    @expose
    def take(self, topic: str) -> list:
        return self.got.get(topic, [])
    """
    wanted = {
        "a": ["a", "*", "**"],
        "b": ["*", "**"],
        "a.b": ["a.b", "a.*", "a.**", "*.b", "**"],
        "a.x.c": ["a.**", "**", "a.*.c", "a.*.**"],
        "a.b.c.d": ["a.**", "**", "a.*.**"],
    }
    with workspace.run(p=plugin(body % (PATTERNS,))) as harness:
        for topic in wanted:
            harness.kernel.emit(topic)
        assert {topic: harness.call("p.take", topic) for topic in wanted} == wanted


def check_handlers_run_in_the_order_they_were_registered(workspace: Workspace) -> None:
    """Handlers of one plugin for one event run in the order of their registration."""
    body = """
    got = []
    @on("x")
    def zebra(self) -> None: self.got.append("zebra")
    @on("*")
    def apple(self) -> None: self.got.append("apple")
    def __init__(self, api: PluginAPI) -> None:
        super().__init__(api)
        api.on("x", self.first)
    def start(self) -> None:
        self.api.on("**", self.last)
    def first(self) -> None: self.got.append("first")
    def last(self) -> None: self.got.append("last")
    @expose
    def take(self) -> list: return self.got
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.kernel.emit("x")
        assert harness.call("p.take") == ["first", "zebra", "apple", "last"]


def check_once_is_once(workspace: Workspace) -> None:
    """With ``once`` exactly one event is delivered, and one more after the next load."""
    body = """
    count = 0
    @on("x", once=True)
    def decorated(self) -> None: self.count += 1
    def start(self) -> None:
        self.api.on("x", self.registered, once=True)
    def registered(self) -> None: self.count += 10
    @expose
    def counted(self) -> int: return self.count
    """
    with workspace.run(p=plugin(body)) as harness:
        for _ in range(20):
            harness.kernel.emit("x")
        assert harness.call("p.counted") == 11
        harness.kernel.reload("p")
        harness.kernel.emit("x")
        harness.kernel.emit("x")
        assert harness.call("p.counted") == 11
        assert harness.kernel.dead_letters() == []


def check_off_takes_a_handler_away(workspace: Workspace) -> None:
    """After ``api.off`` nothing is delivered; ``off`` is idempotent."""
    body = """
    count = 0
    def start(self) -> None:
        self.subscription = self.api.on("x", self.hear)
        self.early = self.api.on("y", self.hear)
    def hear(self) -> None: self.count += 1
    @expose
    def stop_hearing(self) -> str:
        self.api.off(self.subscription)
        self.api.off(self.subscription)
        self.early.cancel()
        return self.subscription.pattern
    @expose
    def counted(self) -> int: return self.count
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.kernel.emit("x")
        assert harness.call("p.stop_hearing") == "x"
        harness.kernel.emit("x")
        harness.kernel.emit("y")
        assert harness.call("p.counted") == 1
        assert harness.info("p").topics == ()
        assert harness.kernel.dead_letters() == []


def check_bad_topics_are_refused_at_once(workspace: Workspace) -> None:
    """A malformed topic raises BadTopic at the call: emit, on, ask, call, set_data."""
    body = """
    @expose
    def attempts(self) -> list:
        api, got = self.api, []
        for attempt in (
            lambda: api.emit("a..b"), lambda: api.emit("a.*"), lambda: api.emit(""), lambda: api.emit("a b"),
            lambda: api.on("a.**.b", print), lambda: api.on("", print), lambda: api.ask("*"), lambda: api.call("x y"),
            lambda: api.set_data("a..b", 1), lambda: api.get_data("*"), lambda: api.watch_data("a.", print),
        ):
            try:
                attempt()
            except errors.KernelError as error:
                got.append(type(error).__name__)
        return got
    """
    with workspace.run(p=plugin(body)) as harness:
        assert harness.call("p.attempts") == ["BadTopic"] * 11
        expect_error(BadTopic, harness.kernel.emit, "a..b")
        expect_error(BadTopic, harness.kernel.on, "a.**.b", print)


ANSWERING = """
    @on("who")
    def mine(self, event, a: int = 0) -> Any:
        return [self.api.name, a, event.source]
    @on("fail")
    def fails(self) -> None:
        raise LookupError("not here")
    @on("slow")
    async def slow(self) -> str:
        await asyncio.sleep(%s)
        return self.api.name
    @expose
    def ask_others(self, topic: str, timeout: float = 20.0, **data: Any) -> list:
        replies = self.api.ask(topic, timeout=timeout, **data)
        return [[r.plugin, r.value, type(r.error).__name__] for r in replies]
"""


def check_ask_gathers_replies(workspace: Workspace) -> None:
    """``ask`` returns one Reply per handler, with a value or an error, except for the asker's own handlers."""
    with workspace.run(a=plugin(ANSWERING % 0), b=plugin(ANSWERING % 0), c=plugin(ANSWERING % 0)) as harness:
        replies = harness.kernel.ask("who", timeout=20.0, a=7)
        assert {reply.plugin: reply.value for reply in replies} == {n: [n, 7, "kernel"] for n in ("a", "b", "c")}
        assert all(isinstance(reply, Reply) and reply.error is None for reply in replies)
        assert sorted(harness.call("a.ask_others", "who", a=1)) == [
            ["b", ["b", 1, "a"], "NoneType"], ["c", ["c", 1, "a"], "NoneType"],
        ]  # fmt: skip
        failed = harness.kernel.ask("fail", timeout=20.0)
        assert [type(reply.error) for reply in failed] == [CallFailed] * 3
        assert "not here" in str(failed[0].error)
        assert harness.kernel.ask("nobody.listens", timeout=20.0) == []


def check_ask_does_not_wait_for_the_late(workspace: Workspace) -> None:
    """The Reply of a handler that is late has CallTimeout; the others have their values."""
    late = plugin(ANSWERING % 3600, manifest="limits = { drain = 0.1, stop = 0.1 }")
    with workspace.run(a=plugin(ANSWERING % 0), b=late) as harness:
        replies = {reply.plugin: reply for reply in harness.kernel.ask("slow", timeout=0.5)}
        assert replies["a"].value == "a"
        assert isinstance(replies["b"].error, CallTimeout)
        assert harness.kernel.stop("b").state == "stopped"  # a handler that awaits can be ended at every level


def check_a_plugin_hears_itself(workspace: Workspace) -> None:
    """Events that a handler emits to its own plugin are handled after it, in order."""
    body = """
    @on("chain")
    def chain(self, n: int) -> None:
        if n:
            self.api.emit("chain", n=n - 1)
        self.api.emit("out.at", n=n)
    """
    with workspace.run(p=plugin(body)) as harness:
        harness.kernel.emit("chain", n=3)
        assert [event["n"] for event in harness.received("at", 4)] == [3, 2, 1, 0]


def check_the_embedder_hears(workspace: Workspace) -> None:
    """``kernel.on`` supports parameters by name, patterns, once, cancel; exceptions of its handlers do no harm."""
    body = """
    @expose
    def say(self, n: int) -> None:
        self.api.emit("out.said", n=n)
        self.api.emit("word", n=n)
    """
    with workspace.run(p=plugin(body)) as harness:
        got: list[Any] = []
        subscription = harness.kernel.on("word", lambda n: got.append(n))
        harness.kernel.on("*", lambda event: got.append(event.source), once=True)
        harness.kernel.on("word", lambda: 1 / 0)
        harness.kernel.on("word", lambda n: got.append(-n), inline=True)
        harness.call("p.say", 1)
        harness.received("said", 1)
        harness.call("p.say", 2)
        harness.until(lambda: len(got) >= 5, "5 notes")
        subscription.cancel()
        subscription.cancel()
        harness.call("p.say", 3)
        harness.until(lambda: -3 in got, "the inline one")
        harness.received("said", 3)
        assert sorted(got, key=str) == sorted([1, "p", -1, 2, -2, -3], key=str)


def check_dead_letters_do_not_lag_behind_a_call(workspace: Workspace) -> None:
    """An event that was refused before a call is answered is visible as a dead letter to the receiver of the answer."""
    body = """
    @on("bad")
    def bad(self, n: int) -> None:
        raise ValueError(n)
    @on("typed")
    def typed(self, n: int) -> None: ...
    @expose
    def ping(self) -> str:
        return "pong"
    """
    relay = """
    @expose
    def relay(self) -> str:
        return self.api.call("p.ping", timeout=20.0)
    """
    with workspace.run(p=plugin(body), q=plugin(relay)) as harness:
        for round in range(1, 11):
            for n in range(50):
                harness.kernel.emit("bad", n=n)
                harness.kernel.emit("typed", n="x")
            assert harness.call("p.ping" if round % 2 else "q.relay") == "pong"
            assert len(harness.kernel.dead_letters()) == 100 * round
        assert len(harness.call("kernel.dead", "p")) == 1000


def check_dead_letters_do_not_lag_behind_an_emit(workspace: Workspace) -> None:
    """An event that finds no space is visible as a dead letter when ``emit`` returns."""
    body = """
    @on("hit", overflow="reject")
    def hit(self, n: int) -> None:
        self.hold("go")
    """
    with workspace.run(p=plugin(body, manifest="limits = { mailbox = 10 }")) as harness:
        harness.kernel.emit("hit", n=0)
        for n in range(300):
            harness.kernel.emit("hit", n=n)
            dead = len(harness.kernel.dead_letters("p"))
            assert dead >= n - 10, (dead, n)
        harness.release("go")


def check_aask_gathers_replies_while_others_run(workspace: Workspace) -> None:
    """``await api.aask`` returns what ``ask`` does; other handlers of the plugin run meanwhile, so two plugins may ask
    each other."""
    asking = """
    @expose
    async def go(self, depth: int) -> list:
        replies = await self.api.aask("question", depth=depth, timeout=10.0)
        return [[reply.plugin, reply.value] for reply in replies]
    @on("question")
    async def answer(self, depth: int) -> Any:
        if depth == 0:
            return self.api.name
        return [reply.value for reply in await self.api.aask("question", depth=depth - 1, timeout=10.0)]
    """
    with workspace.run(p=plugin(asking), q=plugin(asking)) as harness:
        assert harness.call("p.go", 0) == [["q", "q"]]
        assert harness.call("p.go", 1) == [["q", ["p"]]]
        assert harness.call("q.go", 2) == [["p", [["p"]]]]
