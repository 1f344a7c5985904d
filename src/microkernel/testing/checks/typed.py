"""Type hints: parameters are checked and converted on delivery, results by ``returns``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from microkernel.errors import InvalidArguments
from microkernel.sdk.binding.command_arguments import CommandText
from microkernel.testing.harness import Workspace, expect_error, plugin
from microkernel.testing.levels import requires_native

HEAD = """
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

class Colour(Enum):
    RED = "red"
    BLUE = "blue"

@dataclass
class Line:
    item: str
    price: Decimal
    count: int = 1

@dataclass
class Order:
    id: UUID
    lines: list[Line]
    placed: datetime
"""
TYPED = plugin(
    """
    @expose
    def types(self, i: int, d: Decimal, when: datetime, u: UUID, c: Colour, o: Order, t: tuple[int, str], s: set[int],
              day: date, f: float, maybe: int | None = None, many: list[Decimal] = []) -> dict:
        given = {"i": i, "d": d, "when": when, "u": u, "c": c, "o": o, "t": t, "s": s, "day": day, "f": f,
                 "maybe": maybe, "many": many}
        self.api.emit("out.given", **given)
        return {"kinds": {name: type(value).__name__ for name, value in given.items()},
                "inner": [type(o.lines[0]).__name__, type(o.lines[0].price).__name__, o.lines[0].count]}
    @on("typed")
    def on_typed(self, d: Decimal, c: Colour, o: Order | None = None, *, u: UUID) -> None:
        self.api.emit("out.typed", kinds=[type(value).__name__ for value in (d, c, o, u)])
    @expose
    def rich(self) -> Order:
        line = Line("nut", Decimal("0.10"), 3)
        return Order(UUID(int=7), [line], datetime(2026, 7, 30, 12, 0))
    @expose
    def total(self, currency: str = "CNY", *, factor: int = 1) -> Decimal:
        \"\"\"Add it all up.\"\"\"
        return Decimal("1.10") * factor
    @expose
    def entered(self, value: int, rest: list[int] = ()) -> str:
        self.api.emit("out.entered", value=value)
        return "entered"
    @expose
    def open(self, first, *args: int, key: str = "k", **kwargs: Decimal) -> list:
        return [first, args, key, {name: type(value).__name__ for name, value in kwargs.items()}]
    @expose
    def strict(self, a, /, b: int) -> list:
        return [a, b]
    """,
    head=HEAD,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    item: str
    price: Decimal
    count: int = 1


@dataclass
class Order:
    id: UUID
    lines: list[Line]
    placed: datetime


ORDER = Order(UUID(int=7), [Line("nut", Decimal("0.10"), 3)], datetime(2026, 7, 30, 12, 0))
WHEN = datetime(2026, 7, 30, 12, 30, 15, 250_000, tzinfo=timezone(timedelta(hours=8)))
ARGUMENTS: dict[str, Any] = {
    "i": 7, "d": Decimal("1.10"), "when": WHEN, "u": UUID(int=9), "c": Colour.BLUE, "o": ORDER, "t": (1, "one"),
    "s": {1, 2}, "day": date(2026, 7, 30), "f": 2, "many": [Decimal(1)],
}  # fmt: skip
KINDS = {
    "i": "int", "d": "Decimal", "when": "datetime", "u": "UUID", "c": "Colour", "o": "Order", "t": "tuple", "s": "set",
    "day": "date", "f": "float", "maybe": "NoneType", "many": "list",
}  # fmt: skip


def check_arguments_are_converted_by_their_hints(workspace: Workspace) -> None:
    """Arguments by name and position are converted: int, Decimal, datetime, UUID, Enum, dataclass, tuple, set, date,
    float, optional, lists."""
    with workspace.run(p=TYPED) as harness:
        for given in (harness.call("p.types", **ARGUMENTS), harness.call("p.types", *[*ARGUMENTS.values()][:10])):
            assert given == {"kinds": KINDS, "inner": ["Line", "Decimal", 3]}
        heard = harness.received("given", 2)[0]
        assert heard["d"] == "1.10"
        assert heard["c"] == "blue"
        assert heard["u"] == str(UUID(int=9))
        assert heard["o"]["lines"] == [{"item": "nut", "price": "0.10", "count": 3}]
        assert heard["when"] == WHEN
        harness.kernel.emit("typed", d=Decimal(1), c=Colour.RED, o=ORDER, u=UUID(int=1))
        assert harness.received("typed", 1) == [{"kinds": ["Decimal", "Colour", "Order", "UUID"]}]


def check_plain_values_become_what_the_hint_says(workspace: Workspace) -> None:
    """The sender may pass the type itself or its plain form."""
    with workspace.run(p=TYPED) as harness:
        plain = {**ARGUMENTS, "d": "1.10", "u": str(UUID(int=9)), "c": "blue", "day": "2026-07-30", "t": [1, "one"]}
        lines = [{"item": "nut", "price": "0.10"}]
        plain |= {"o": {"id": str(UUID(int=7)), "lines": lines, "placed": "2026-07-30T12:00:00"}}
        assert harness.call("p.types", **plain)["kinds"] == KINDS


def check_results_are_converted_by_returns(workspace: Workspace) -> None:
    """``returns=`` converts the result; without it, the result is plain data."""
    with workspace.run(p=TYPED) as harness:
        assert harness.call("p.total") == "1.10"
        assert harness.call("p.total", "CNY", factor=2, returns=Decimal) == Decimal("2.20")
        assert harness.call("p.rich", returns=Order) == ORDER
        assert harness.call("p.rich")["lines"] == [{"item": "nut", "price": "0.10", "count": 3}]
        error = expect_error(InvalidArguments, harness.call, "p.total", returns=int)
        assert "p.total returned what does not fit: Expected `int`" in error.text


class Totals(Protocol):
    def total(self, currency: str = "CNY", *, factor: int = 1) -> Decimal: ...


def check_service_is_a_typed_proxy(workspace: Workspace) -> None:
    """``api.service(name, protocol)`` has methods as attributes, and converts results by the protocol's type hints."""
    body = """
    @expose
    def through(self) -> list:
        plain, typed = self.api.service("p"), self.api.service("p", Totals, timeout=20)
        return [type(plain.total()).__name__, type(typed.total(factor=3)).__name__, str(typed.total("CNY", factor=3))]
    """
    head = """
    from decimal import Decimal
    from typing import Protocol
    class Totals(Protocol):
        def total(self, currency: str = "CNY", *, factor: int = 1) -> Decimal: ...
    """
    with workspace.run(p=TYPED, q=plugin(body, head=head)) as harness:
        assert harness.call("q.through") == ["str", "Decimal", "3.30"]


def check_arguments_that_do_not_fit(workspace: Workspace) -> None:
    """InvalidArguments names the parameter and the path; the method is not entered."""
    with workspace.run(p=TYPED) as harness:
        wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
            (("seven",), {}, "value"), ((), {"value": 1.5}, "value"), ((None,), {}, "value"), ((), {}, "value"),
            ((1, [1, "two"]), {}, "rest[1]"), ((), {"value": 1, "rest": [1, 2, None]}, "rest[2]"),
            ((1, [], 3), {}, "too many"), ((1,), {"value": 2}, "value"), ((1,), {"other": 2}, "other"),
        ]  # fmt: skip
        for args, kwargs, place in wrong:
            error = expect_error(InvalidArguments, harness.call, "p.entered", *args, **kwargs)
            assert place in error.reason, (args, kwargs, error.text)
            assert "p.entered" in error.reason
            assert error.text.endswith("; the method is entered(value: int, rest: list[int] = ())")
        assert harness.call("p.entered", 1) == "entered"
        assert harness.received("entered", 1) == [{"value": 1}]
        odd = {"id": str(UUID(int=1)), "lines": [{"item": "nut", "price": "free"}], "placed": WHEN}
        error = expect_error(InvalidArguments, harness.call, "p.types", **{**ARGUMENTS, "o": odd})
        assert "o.lines[0].price" in error.text
        assert expect_error(InvalidArguments, harness.call, "p.types", **{**ARGUMENTS, "c": "green"}).path.startswith(
            "c"
        )


def check_open_signatures(workspace: Workspace) -> None:
    """``*args``, ``**kwargs`` and positional-only parameters are filled as in Python, and each argument is checked."""
    with workspace.run(p=TYPED) as harness:
        assert harness.call("p.open", 1, 2, 3, key="x", d="1.5") == [1, [2, 3], "x", {"d": "Decimal"}]
        assert harness.call("p.strict", 1, b=2) == [1, 2]
        assert "args[1]" in expect_error(InvalidArguments, harness.call, "p.open", 1, 2, "three").reason
        assert "kwargs" in expect_error(InvalidArguments, harness.call, "p.open", 1, d=[]).reason
        expect_error(InvalidArguments, harness.call, "p.strict", a=1, b=2)


COMMANDED = plugin(
    """
    @expose
    def text(self, value: str) -> str: return value
    @expose
    def exact(self, value: Decimal) -> str: return str(value)
    @expose
    def both(self, value: int | str) -> list: return [type(value).__name__, value]
    @expose
    def named(self, *more: str, count: int = 0, **rest: str) -> list: return [list(more), count, rest]
    @expose
    def nested(self, line: Line, by: dict[int, str]) -> list:
        return [line.item, str(line.price), line.count, [[type(key).__name__, value] for key, value in by.items()]]
    @expose
    def untyped(self, value, data: dict[str, Any] = {}) -> list: return [value, data]
    @expose
    def raw(self, value: bytes) -> int: return len(value)
    @on("code")
    def on_code(self, code: str, note=None) -> None: self.api.emit("out.code", code=code, note=note)
    @on("code")
    def on_number(self, code: int, **rest) -> None: self.api.emit("out.number", code=code, rest=rest)
    """,
    head=HEAD,
)


def check_a_typed_text_is_what_its_hint_wants(workspace: Workspace) -> None:
    """A text typed on a command line stays a str for a str hint, and is converted for other hints."""
    digits = "1234567890123456.789012345678901234"
    with workspace.run(p=COMMANDED) as harness:
        typed = [
            harness.call("p.text", CommandText(word)) for word in ("1.10", "5", "true", "null", '"5"', "[1]", "{x")
        ]
        assert typed == ["1.10", "5", "true", "null", "5", "[1]", "{x"]
        assert harness.call("p.exact", CommandText(digits)) == digits
        assert harness.call("p.exact", value=CommandText("1.10")) == "1.10"
        assert harness.call("p.both", CommandText("5")) == ["int", 5]
        assert harness.call("p.both", CommandText("1.10")) == ["str", "1.10"]
        assert harness.call("p.named", CommandText("1"), count=CommandText("2"), x=CommandText("3")) == [
            ["1"], 2, {"x": "3"}
        ]  # fmt: skip
        line = CommandText('{"item": 7, "price": 1.10, "count": 2}')
        assert harness.call("p.nested", line, CommandText('{"1": 2.50}')) == ["7", "1.10", 2, [["int", "2.50"]]]
        assert harness.call("p.untyped", CommandText("1.10"), CommandText('{"a": 1.50}')) == [1.1, {"a": 1.5}]
        assert harness.call("p.raw", CommandText("né")) == 3
        wrong = expect_error(InvalidArguments, harness.call, "p.named", count=CommandText("many"))
        assert "got `str`" in wrong.text
        harness.kernel.emit("code", code=CommandText("0123"), note=CommandText("7"))
        harness.kernel.emit("code", code=CommandText("123"), more=CommandText("1.50"))
        assert harness.received("code", 2) == [{"code": "0123", "note": 7}, {"code": "123", "note": None}]
        assert harness.received("number", 1) == [{"code": 123, "rest": {"more": 1.5}}]
        assert [letter["data"] for letter in harness.until_dead_letters(1)] == [{"code": "0123", "note": 7}]


@requires_native
def check_msgspec_structs(workspace: Workspace) -> None:
    """A msgspec Struct is supported as a type: nested, with constraints, in both directions."""
    head = """
    from typing import Annotated
    import msgspec
    class Point(msgspec.Struct):
        x: Annotated[int, msgspec.Meta(ge=0)]
        y: int = 0
    """
    body = """
    @expose
    def shift(self, point: Point) -> Point:
        return Point(point.x + 1, point.y)
    """
    with workspace.run(p=plugin(body, head=head)) as harness:
        assert harness.call("p.shift", {"x": 1}) == {"x": 2, "y": 0}
        assert "point.x" in expect_error(InvalidArguments, harness.call, "p.shift", {"x": -1}).text


def check_methods_have_signature_schema_and_help(workspace: Workspace) -> None:
    """The signature, schema and help in ``info`` come from a method's type hints and docstring."""
    with workspace.run(p=TYPED) as harness:
        info = harness.info("p")
        assert "currency: str = 'CNY'" in info.methods["total"]
        assert "entered" in info.schemas
        assert "value" in str(info.schemas["entered"])
        assert info.returns["total"] == "decimal.Decimal"
        assert info.docs == {"total": "Add it all up."}
