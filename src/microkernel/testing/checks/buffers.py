"""Buffers: bytes that are sent beside a payload, and stay valid as long as they are referenced."""

from __future__ import annotations

from microkernel import Buffer
from microkernel.errors import CallFailed, CallTimeout, InvalidArguments, NotPlainData, PayloadTooLarge
from microkernel.testing.harness import Workspace, expect_error, plugin
from microkernel.testing.levels import only_at

MEBIBYTE = 1024 * 1024
# Sizes that are sent as bytes at every level, and sizes that use shared memory where there is any.
SIZES = (0, 1, 1000, 65_536, 65_537, MEBIBYTE, 3 * MEBIBYTE + 1)

PEER = plugin(
    """
    kept: list = []

    @expose
    def length(self, data: Buffer) -> int:
        return len(data)
    @expose
    def mirror(self, value):
        return value
    @expose
    def kinds(self, value) -> list:
        return [type(value).__name__, type(value["in"][0]).__name__]
    @expose
    def keep(self, data: Buffer) -> None:
        self.kept.append(data.data[1:5])
    @expose
    def what_was_kept(self) -> list:
        return [bytes(view) for view in self.kept]
    @expose
    def let_go(self) -> None:
        self.kept.clear()
    @on("frame.shown")
    def shown(self, pixels: Buffer, number: int):
        self.api.emit("out.shown", number=number, size=len(pixels), begins=bytes(pixels)[:4], same=pixels)
    @on("frame.whole")
    def whole(self, event):
        self.api.emit("out.whole", kind=type(event.data["pixels"]).__name__, size=len(event.data["pixels"]))
    """,
    head="from microkernel import Buffer",
)

SENDER = plugin(
    """
    @expose
    def length(self, size: int) -> int:
        return self.api.call("peer.length", self.api.share(b"x" * size))
    @expose
    def round_trip(self, size: int) -> list:
        data = bytearray(range(256)) * (size // 256 + 1)
        buffer = self.api.share(data)
        before = bytes(data)
        data[:4] = b"!!!!"
        back = self.api.call("peer.mirror", value={"deep": [buffer, "text"]})["deep"][0]
        return [type(back).__name__, back == before, bytes(buffer) == before, back.data.readonly]
    @expose
    def show(self, size: int, count: int) -> None:
        for number in range(count):
            self.api.emit("frame.shown", pixels=self.api.share(bytes([number]) * size), number=number)
            self.api.emit("frame.whole", pixels=self.api.share(bytes([number]) * size))
    @expose
    def keep(self, letter: str, size: int) -> None:
        self.api.call("peer.keep", self.api.share(letter.encode() * size))
    @expose
    async def later(self, size: int) -> bool:
        back = await self.api.acall("peer.mirror", self.api.share(b"later" * size))
        return back == b"later" * size
    @expose
    def misuse(self) -> list:
        got = []
        for attempt in (
            lambda: self.api.set_data("key", self.api.share(b"x" * 100_000)),
            lambda: self.api.share("a text"), lambda: self.api.share(7),
        ):
            try:
                attempt()
            except (errors.KernelError, TypeError) as error:
                got.append(type(error).__name__)
        return got
    @on("ask.large")
    def answer(self):
        return self.api.share(b"x")
    """
)


def check_a_buffer_arrives_as_it_was_shared(workspace: Workspace) -> None:
    """Buffers arrive unchanged in calls and their values, anywhere in the payload, even if the original is modified."""
    with workspace.run(peer=PEER, sender=SENDER) as harness:
        for size in SIZES:
            assert harness.call("sender.length", size) == size
            assert harness.call("sender.round_trip", size) == ["Buffer", True, True, True]
            assert harness.call("sender.later", size // 5) is True
            mine = harness.kernel.share(memoryview(b"<" + b"m" * size + b">"))
            assert harness.call("peer.mirror", mine) == mine
            assert harness.call("peer.length", data=mine) == size + 2
        assert harness.call("peer.kinds", {"in": [harness.kernel.share(b"x" * MEBIBYTE)]}) == ["dict", "Buffer"]


def check_events_carry_buffers(workspace: Workspace) -> None:
    """Events carry Buffers to typed handlers, to handlers of the whole Event, and to the embedder; in order."""
    with workspace.run(peer=PEER, sender=SENDER) as harness:
        for turn, size in enumerate((1000, MEBIBYTE)):
            harness.call("sender.show", size, 8)
            harness.kernel.emit("frame.shown", pixels=harness.kernel.share(b"mine" * size), number=8)
            shown = harness.received("shown", 9 * (turn + 1))[9 * turn :]
            assert [(each["number"], each["size"], each["begins"]) for each in shown] == [
                *((number, size, bytes([number]) * 4) for number in range(8)), (8, 4 * size, b"mine"),
            ]  # fmt: skip
            assert [bytes(each["same"])[-4:] for each in shown] == [each["begins"] for each in shown]
            assert harness.received("whole", 8 * (turn + 1))[-1] == {"kind": "Buffer", "size": size}


def check_plain_bytes_do_where_a_buffer_is_wanted(workspace: Workspace) -> None:
    """Plain bytes are accepted where a Buffer is annotated; nothing else is."""
    with workspace.run(peer=PEER) as harness:
        assert harness.call("peer.length", b"plain") == 5
        for wrong in ("text", 7, [1, 2], None):
            expect_error(InvalidArguments, harness.call, "peer.length", wrong)


def check_a_buffer_stays_while_somebody_looks(workspace: Workspace) -> None:
    """A Buffer is valid as long as a view of any part of it is referenced; only then is its memory reused."""
    with workspace.run(peer=PEER, sender=SENDER) as harness:
        letters = "abcdefghijklmnopqrst"
        for letter in letters:
            harness.call("sender.keep", letter, MEBIBYTE)
        assert harness.call("peer.what_was_kept") == [letter.encode() * 4 for letter in letters]
        harness.call("peer.let_go")
        for letter in letters:
            harness.call("sender.keep", letter.upper(), MEBIBYTE)
        assert harness.call("peer.what_was_kept") == [letter.upper().encode() * 4 for letter in letters]


FUSSY = plugin(
    """
    @on("frame.odd")
    def odd(self, pixels: Buffer, number: int):
        if self.api.get_data("mood") != "good":
            raise ValueError("not today")
        self.api.emit("out.odd", number=number, begins=bytes(pixels)[:4], size=len(pixels))
    """,
    head="from microkernel import Buffer",
)
ODD = plugin(
    """
    @expose
    def show(self, letters: str, size: int) -> None:
        for number, letter in enumerate(letters):
            self.api.emit("frame.odd", pixels=self.api.share(letter.encode() * size), number=number)
    """
)


def check_a_dead_letter_keeps_its_buffer(workspace: Workspace) -> None:
    """A dead letter keeps its Buffer until it is handled or dropped, whatever its sender shares meanwhile."""
    with workspace.run(fussy=FUSSY, sender=ODD) as harness:
        harness.call("sender.show", "abc", MEBIBYTE)
        letters = harness.until_dead_letters(3)
        assert letters[0]["data"]["pixels"] == f"<Buffer of {MEBIBYTE:,} bytes>"
        harness.call("sender.show", "defghi", MEBIBYTE)
        harness.until_dead_letters(9)
        harness.kernel.set_data("mood", "good")
        for letter in letters:
            harness.kernel.replay(letter["id"])
        assert [each["begins"] for each in harness.received("odd", 3)] == [b"aaaa", b"bbbb", b"cccc"]


MORTAL = plugin(
    """
    @on("frame.deadly")
    def deadly(self, event, pixels: Buffer):
        if event.delivery == 1:
            os._exit(1)
        self.api.emit("out.survived", begins=bytes(pixels)[:4], size=len(pixels))
    """,
    head="from microkernel import Buffer",
    manifest="supervision = {backoff = 0.01}",
)


@only_at("process", "sandbox")
def check_an_event_that_is_delivered_again_has_its_buffer(workspace: Workspace) -> None:
    """An event that is delivered again, because an instance died while handling it, still has its Buffer."""
    with workspace.run(mortal=MORTAL, sender=ODD) as harness:
        harness.kernel.emit("frame.deadly", pixels=harness.kernel.share(b"once" * MEBIBYTE))
        harness.call("sender.show", "abcdef", 4 * MEBIBYTE)
        assert harness.received("survived", 1) == [{"begins": b"once", "size": 4 * MEBIBYTE}]


def check_where_a_buffer_cannot_go_it_is_refused(workspace: Workspace) -> None:
    """A Buffer is refused in shared data and in the answer to an ask; other objects than bytes-like ones raise
    TypeError."""
    with workspace.run(sender=SENDER) as harness:
        assert harness.call("sender.misuse") == ["NotPlainData", "TypeError", "TypeError"]
        (reply,) = harness.kernel.ask("ask.large", timeout=20.0)
        assert reply.error is not None
        assert expect_error(NotPlainData, harness.kernel.set_data, "key", [harness.kernel.share(b"x")]).path == "[0]"


LARGE = plugin(
    """
    @expose
    def send(self, size: int) -> int:
        return self.api.call("peer.length", self.api.share(bytes(size)), timeout=20)
    """
)


@only_at("thread", "process")
def check_a_buffer_may_be_larger_than_a_payload(workspace: Workspace) -> None:
    """A Buffer may be larger than a payload if plugins have shared memory."""
    with workspace.run(peer=PEER, sender=LARGE) as harness:
        for _ in range(3):
            assert harness.call("sender.send", 50_000_000) == 50_000_000
        assert harness.call("peer.length", harness.kernel.share(bytes(40_000_000))) == 40_000_000


@only_at("sandbox", "wasm")
def check_a_confined_buffer_is_a_part_of_the_payload(workspace: Workspace) -> None:
    """A confined plugin shares no memory with others: a Buffer too large for a payload is refused in both
    directions."""
    with workspace.run(peer=PEER, sender=LARGE) as harness:
        assert expect_error(CallFailed, harness.call, "sender.send", 17 * MEBIBYTE).remote_type == "PayloadTooLarge"
        expect_error(PayloadTooLarge, harness.call, "peer.length", harness.kernel.share(bytes(17 * MEBIBYTE)))
        assert harness.call("sender.send", 15 * MEBIBYTE) == 15 * MEBIBYTE
        harness.kernel.emit("frame.whole", pixels=harness.kernel.share(bytes(17 * MEBIBYTE)))
        harness.kernel.emit("frame.whole", pixels=harness.kernel.share(b"small"))
        assert harness.received("whole", 1)[0]["size"] == 5
        assert [letter["topic"] for letter in harness.until_dead_letters(1)] == ["frame.whole"]


SLOW = plugin(
    """
    @expose
    def slow(self, data: Buffer):
        self.hold("go")
        return data
    """,
    head="from microkernel import Buffer",
)


def check_an_answer_that_nobody_waits_for_is_given_back(workspace: Workspace) -> None:
    """The attachments of an answer that is no longer awaited are released, and the channel keeps working."""
    with workspace.run(slow=SLOW, peer=PEER) as harness:
        for number in range(6):
            mine: Buffer = harness.kernel.share(bytes([number]) * MEBIBYTE)
            if number < 3:
                expect_error(CallTimeout, harness.kernel.call, "slow.slow", mine, timeout=0.05)
            else:
                harness.release("go")
                assert harness.call("slow.slow", mine) == mine
        assert harness.call("peer.mirror", "after") == "after"
