"""The codec with C and the guest's codec without it: both return the same values and errors.

No ``from __future__ import annotations`` here, because classes made inside tests name types of the codec under test.
"""

import enum
import typing
from collections import Counter, OrderedDict, deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import ModuleType, UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID
from weakref import ref

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from microkernel.errors import InvalidArguments, NotPlainData, PayloadTooLarge
from microkernel.guest import codec as guest
from microkernel.wire import codec as native
from microkernel.wire.codec import NOT_UNICODE
from microkernel.wire.command_text import CommandText


def kind_of(value: object) -> str:
    """Not repr, which for some values differs between processes, while tests are identified by their names."""
    return type(value).__name__


CODECS = pytest.mark.parametrize("codec", [native, guest], ids=["native", "guest"])
EAST = timezone(timedelta(hours=8))
ODD = timezone(-timedelta(hours=3, minutes=29, seconds=31))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Rights(enum.Flag):
    NONE = 0
    READ = 1
    WRITE = 2
    ALL = 3


class Word(enum.StrEnum):
    YES = "yes"
    NO = "no"


class Lenient(enum.Enum):
    KNOWN = "known"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> "Lenient":
        return cls.OTHER


class Text(str):
    """A subclass of str."""


class Number(int):
    """A subclass of int."""


class Point(NamedTuple):
    x: int
    y: str = "y"


class Whole(NamedTuple):
    x: int
    y: float


@dataclass
class Line:
    item: str
    price: Decimal
    count: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Slotted:
    a: int
    b: Optional["Slotted"] = None


@dataclass
class Order:
    id: UUID
    lines: list[Line]
    placed: datetime | None = None
    parent: Optional["Order"] = None


@dataclass
class Checked:
    low: int
    high: int = field(default=9, init=False)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Loose(TypedDict, total=False):
    a: int
    b: list["Loose"]


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    inside: T
    more: list[T] = field(default_factory=list)


class Stranger:
    """An unknown class."""


class Odd(tuple):
    """Looks like a NamedTuple, and is not one."""

    _fields = ("a",)


class Nothing(NamedTuple):
    pass


class Lacking:
    """Looks like a dataclass, but accessing its fields raises."""

    __dataclass_fields__ = Line.__dataclass_fields__
    item = property(lambda self: {}["item"])
    count = property(lambda self: 7)

    @property
    def tags(self) -> list[str]:
        raise AttributeError


class Picky:
    """Accepts some bytes only."""

    @classmethod
    def __from_bytes__(cls, data: bytes) -> Any:
        if data == b"other":
            return data
        raise {b"type": TypeError, b"value": ValueError}[data]("not these")


Id = NewType("Id", int)

VALUES: list[Any] = [
    None, True, False, 0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1, -1, -32, -33, -128,
    -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63), 0.0, -0.0, 1.5, float("inf"), float("-inf"), 1e300, "",
    "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 70_000, "ü" * 16, "\U0001f600", Text("own"), b"", b"x" * 255,
    b"x" * 256, b"x" * 70_000, bytearray(b"ab"), memoryview(b"abcd")[1:3], [], [1] * 15, [1] * 16, [1] * 70_000, {},
    {str(n): n for n in range(15)}, {str(n): n for n in range(16)}, {n: n for n in range(70_000)}, {"k" * 40: 1},
    {1: 2, None: 3, 1.5: 4, b"x": 5, (1, (2,)): 6, Text("k"): 7, Colour.RED: 8, Size.SMALL: 9}, (1, "a"), {7},
    frozenset({8}), Point(1), OrderedDict(a=1), Counter("aab"), Line("nut", Decimal("0.10")), Slotted(1, Slotted(2)),
    Order(UUID(int=3), [Line("a", Decimal(1))], datetime(2026, 1, 1, tzinfo=UTC)), Colour.RED, Size.LARGE,
    Rights.READ | Rights.WRITE, Word.YES, Decimal("1.10"), Decimal("NaN"), Decimal("1E+5"), UUID(int=7),
    date(2026, 7, 3),
    datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 7, 30, 12, 0), datetime(2026, 7, 30, 1, 2, 3, 4, tzinfo=EAST),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2106, 2, 8, tzinfo=UTC),
    datetime(2514, 6, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), time(1, 2, 3),
    time(0, 0),
    time(1, 2, 3, 40, tzinfo=UTC), time(1, 2, 3, tzinfo=EAST), time(1, 2, tzinfo=ODD),
    time(1, tzinfo=timezone(timedelta(seconds=86399))), time(1, tzinfo=timezone(-timedelta(seconds=86371))),
    timedelta(0), timedelta(1, 2, 3),
    timedelta(-1, 2, 3), timedelta(seconds=1.5), timedelta(microseconds=-5), timedelta(days=400), timedelta(days=-3),
    timedelta.max, timedelta.min,
]  # fmt: skip
NO_VALUES: list[tuple[Any, str, str]] = [
    (object(), "the payload", "object"), ([1, object()], "[1]", "object"), ({"a": [1j]}, ".a[0]", "complex"),
    ({1: range(3)}, "[1]", "range"), (2**64, "the payload", f"int {2**64}, over 64 bits"),
    ({"n": -(2**63) - 1}, ".n", f"int {-(2**63) - 1}, over 64 bits"), (Number(2**64), "the payload", "Number"),
    (deque([1]), "the payload", "deque"), (Line, "the payload", "type"),
    ("\ud800", "the payload", NOT_UNICODE), ({"a": ["\udce9"]}, ".a[0]", NOT_UNICODE),
    ({"b\udce9": 1}, r"(key 'b\udce9')", NOT_UNICODE),
    ({"a\udce9": [{"\ud800": 1}]}, r".a\xe9[0] (key '\ud800')", NOT_UNICODE),
    (Line("a", object()), ".price", "object"), (Point(Stranger()), "[0]", "Stranger"),
    ({(1, 1j): 2}, "(key (1, 1j))[1]", "complex"),
    ([{"a": {1, 2, Stranger}}], "", ""), (len, "the payload", "builtin_function_or_method"),
    (..., "the payload", "ellipsis"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=kind_of)
def test_values_have_the_same_bytes(value: Any) -> None:
    assert guest.encode(value) == native.encode(value)
    assert form(guest.decode(native.encode(value))) == form(native.decode(native.encode(value)))


@CODECS
def test_absent_fields_are_left_out(codec: ModuleType) -> None:
    assert codec.decode(codec.encode(Lacking())) == {"count": 7}


@CODECS
@pytest.mark.parametrize(("value", "path", "kind"), NO_VALUES, ids=kind_of)
def test_an_object_that_is_not_a_value_is_named_with_its_path(
    codec: ModuleType, value: Any, path: str, kind: str
) -> None:
    with pytest.raises(NotPlainData) as caught:
        codec.encode(value)
    if path:
        assert (caught.value.path, caught.value.kind) == (path, kind)


@CODECS
def test_payloads_have_a_limit(codec: ModuleType) -> None:
    data = b"x" * (codec.MAX_PAYLOAD - 10)
    assert len(codec.encode(data)) < codec.MAX_PAYLOAD
    with pytest.raises(PayloadTooLarge):
        codec.encode(data + b"x" * 20)
    with pytest.raises(PayloadTooLarge):
        codec.encode_arguments([data], {"more": b"x" * 20}, lambda _: None)
    args, kwargs, attached = codec.encode_arguments([1], {}, lambda _: None)
    assert (bytes(args), bytes(kwargs), attached) == (b"\x91\x01", b"\x80", ())


class Page:
    """Is attached to a payload, and can be created from bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @classmethod
    def __from_bytes__(cls, data: bytes) -> "Page":
        return cls(data)


DEEP = b"\x81\xa4deep\x81\xa2er\x92\xd4\x01\x01\xd4\x01\x02"


def page(value: object) -> Page | None:
    return value if isinstance(value, Page) else None


@CODECS
def test_an_attachment_is_referred_to_by_its_index(codec: ModuleType) -> None:
    first, second = Page(b"1"), Page(b"2")
    args, kwargs, attached = codec.encode_arguments([first, [1]], {"deep": {"er": (second, first)}}, page)
    assert (bytes(args), bytes(kwargs)) == (b"\x92\xd4\x01\x00\x91\x01", DEEP)
    assert attached == (first, second, first)
    assert codec.decode(args, attached=attached) == [first, [1]]
    assert codec.decode(kwargs, dict[str, dict[str, list[Page]]], attached) == {"deep": {"er": [second, first]}}
    assert codec.decode(codec.encode_with([first], page)[0], tuple[Page | None, ...], [second]) == (second,)
    assert codec.encode_with({"plain": 1}, page) == (codec.encode({"plain": 1}), ())


@CODECS
def test_a_missing_attachment_is_refused(codec: ModuleType) -> None:
    data, attached = codec.encode_with([Page(b""), Page(b"")], page)
    for wrong in (data, b"\xd4\x01\xff", b"\xd5\x01\x00\x00", b"\xc7\x00\x01"):
        with pytest.raises(InvalidArguments, match="not attached"):
            codec.decode(wrong, attached=attached[:1])
    assert type(codec.decode(data)[0]).__name__ == "Ext"


@CODECS
def test_bytes_are_accepted_by_a_class_with_from_bytes(codec: ModuleType) -> None:
    for found in (codec.decode(codec.encode([b"x"]), list[Page])[0], codec.convert(b"x", Page)):
        assert type(found) is Page
        assert found.data == b"x"
    with pytest.raises(InvalidArguments):
        codec.decode(codec.encode("x"), Page)
    assert codec.schema(dict[str, Page])["additionalProperties"] == {"type": "string", "contentEncoding": "base64"}


@CODECS
def test_attachments_are_bounded(codec: ModuleType) -> None:
    """In number and, for bytes, in size. The error names an object that is not a value, not the attachments."""
    assert len(codec.encode_with([Page(b"")] * codec.MAX_ATTACHED, page)[1]) == codec.MAX_ATTACHED
    with pytest.raises(NotPlainData):
        codec.encode_with([Page(b"")] * (codec.MAX_ATTACHED + 1), page)
    with pytest.raises(PayloadTooLarge):
        codec.encode_with([Page(b"x" * codec.MAX_PAYLOAD)], page)
    with pytest.raises(PayloadTooLarge):
        codec.encode_arguments([b"x" * (codec.MAX_PAYLOAD - 100)], {"more": Page(b"x" * 100)}, page)
    with pytest.raises(NotPlainData) as refused:
        codec.encode_with({"a": Page(b""), "b": [object()]}, page)
    assert refused.value.path == ".b[0]"
    with pytest.raises(NotPlainData):
        codec.encode({"a": Page(b"")})


@CODECS
def test_nesting_has_a_limit(codec: ModuleType) -> None:
    """At least MAX_DEPTH is possible; deeper nesting is refused, and does not crash."""
    deep: Any = 1
    for _ in range(codec.MAX_DEPTH):
        deep = [deep]
    assert codec.decode(codec.encode(deep)) == deep
    endless: dict[str, Any] = {}
    endless["again"] = [endless]
    with pytest.raises(NotPlainData) as caught:
        codec.encode(endless)
    assert caught.value.kind == "nested too deep, or into itself"
    for data in (b"\x91" * 100_000 + b"\xc0", b"\x81\xa1k" * 100_000 + b"\xc0", b"\x91" * 100_000):
        with pytest.raises(InvalidArguments):
            codec.decode(data)
        with pytest.raises(InvalidArguments):
            codec.decode(data, dict[str, Any])


# Types

CASES: list[tuple[Any, list[Any]]] = [
    (Any, [None, [1, {"a": b"x"}]]), (None, [None, 1]), (bool, [True, 1, None]),
    (int, [1, True, 1.5, "1", None, [], {}]),
    (float, [1.5, 1, 2**64 - 1, True, "1"]), (str, ["a", 1, b"a", Colour.RED]), (bytes, [b"a", "a"]),
    (bytearray, [b"a", "a"]), (list, [[1, [2]], (1,), {}, None]), (list[int], [[1, 2], [], [1, "x"], "x"]),
    (list[list[str]], [[["a"], []], [["a"], ["b", 3]]]), (dict, [{}, {1: 2}, []]),
    (typing.Dict, [{"a": 1}]),  # noqa: UP006
    (dict[str, int], [{"a": 1}, {"a": "b"}, {1: 2}, {}]), (dict[int, list[int]], [{1: [2]}, {1: ["a"]}, {"a": []}]),
    (dict[tuple[int, str], int], [{(1, "a"): 2}, {(1, 2): 3}, {1: 2}]), (dict[Size, Any], [{1: 2}, {3: 4}]),
    (tuple, [[1, "a"], "x"]), (tuple[int, ...], [[1, 2], [], [1, "x"]]), (tuple[int, str], [[1, "a"], [1], [1, 2]]),
    (tuple[()], [[], [1]]), (set[int], [[1, 1, 2], ["a"]]), (frozenset[str], [["a"], [1]]),
    (set, [[[1], 2], [{}], [[{}]]]), (list[frozenset], [[[1, {}]]]), (set[list[int]], [[], [[1]]]),
    (set[set[int]], [[[1]]]), (set[Line], [[{"item": "a", "price": 1}]]), (set[bytearray], [[b"a"]]),
    (set[Decimal], [["1.0", "sNaN"]]), (set[tuple[Any, ...]], [[[1]], [[{}]]]), (set[Movie], [[{"title": "a"}]]),
    (dict[Literal["b", "a"], int], [{"a": 1}, {"c": 1}]), (dict[Literal["a", 1], int], [{"a": 1, 1: 1}, {"b": 1}]),
    (dict[Word, int], [{"yes": 1}, {"what": 1}]), (dict[Union[Literal["a"], str], int], [{"b": 1}]),  # noqa: UP007
    (dict[Stranger, int], [{"a": 1}, {1: 1}]), (dict[UUID, int], [{str(UUID(int=7)): 1}, {"x": 1}]),
    (set[tuple[int, ...]], [[[1, 2]], [1]]), (typing.Sequence[int], [[1], ["a"]]),
    (typing.Mapping[str, float], [{"a": 1}, {"a": "b"}]), (typing.Iterable[int], [[1], 1]),
    (int | None, [1, None, "x"]), (Optional[list[int]], [None, [1], ["x"], 1]),  # noqa: UP045
    (int | str | None, [1, "a", None, 1.5]),
    (Union[float, int, list[int]], [1, 1.5, [1], "a", ["x"]]), (bool | float, [True, 1, "a"]),  # noqa: UP007
    (Decimal | float, [1, 1.5, "1.10", "x"]), (datetime | int | None, ["2026-01-01T00:00:00Z", 1, None, 1.5, []]),
    (Literal["a", "b"], ["a", "c", 1]), (Literal[1, 2], [1, 3, "a", True]),
    (Literal["a", 1, None], ["a", 1, None, "b", 2, 1.5]),
    (Literal[True, 3], [True, False, 3, 1]), (Union[Literal["a"], Literal["b"]], ["a", "b", "c"]),  # noqa: UP007
    (Literal["a"] | str, ["z"]), (Literal[Literal[1], 2], [1, 2, 3]),  # noqa: RUF041
    (Colour, ["red", "green", 1]), (Size, [1, 3, "a"]), (Rights, [0, 1, 3, 8]), (Word, ["yes", "maybe"]),
    (Lenient, ["known", "what", 1]), (Colour | None, ["red", None, 1]), (Colour | int, ["red", 1, 1.5]),
    (Decimal, ["1.10", 1, 1.5, 1e16, 1e-7, 123456789.123, "x", None]),
    (UUID, [str(UUID(int=7)), "7" * 32, "x", b"x" * 16, b"x", 1]),
    (datetime, [datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00", "2026-01-01 01:02:03.1234567+08:00", 1, "x",
                "2026-01-01T00:00:00.5-0330", "2026-02-30T00:00:00", "2026-01-01t24:00:00z",
                "2026-01-01T00:00:00+24:00",
                "9999-12-31T23:59:59.9999999Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Z ",
                "٢026-01-01T00:00:00"]),
    (date, ["2026-01-01", "2026-13-01", "2026-1-1", 1]),
    (time, ["01:02:03", "01:02:03.5Z", "23:59:59.9999999", "24:00:00", "01:02", "01:02:03+01:30", "01:02:03+0130", 1]),
    (timedelta, ["P1D", "PT1.5S", "-P1DT2H3M4.000005S", "+PT1H", "P1W", "P1M", "PT1M", "PT", "P", "", "P1.5D",
    "PT1.5H1S",
                 "P999999999D", "P9999999999D", "PT1S1M", "P1DT", "P1H", "-PT0.0000005S", "P00000000000000000001D", 1,
                 "P99999999999999999999D", "P99999999999999999999",
                 "PT100000000000000X", "P100000000000000M", "PT0",
                 "PT0.999999999999S", "p1dt1h", "PT1H1", "P-1D", "-P999999999DT1S"]),
    (Line, [{"item": "a", "price": "1.10"}, {"item": "a", "price": 1, "count": "x"}, {"item": "a"}, {}, [], {1: 2},
            {"item": "a", "price": 1, "tags": ["x", 1]}, {"item": "a", "price": 1, "more": 1}, {None: 1}]),
    (Order, [{"id": str(UUID(int=1)), "lines": []}, {"id": "x", "lines": []},
             {"id": str(UUID(int=1)), "lines": [{"item": 1}]},
             {"id": str(UUID(int=1)), "lines": [], "parent": {"id": str(UUID(int=2)),
             "lines": [{"item": "a", "price": "x"}]}}]),
    (Slotted, [{"a": 1}, {"a": 1, "b": {"a": 2}}, {"a": 1, "b": {"a": "x"}}]),
    (Checked, [{"low": 1}, {"low": 10}, {"low": 1, "high": 0}]), (list[Checked], [[{"low": 1}, {"low": 10}]]),
    (Line | None, [None, {"item": "a", "price": 1}, 1]),
    (Movie, [{"title": "a"}, {"title": "a", "year": 1, "x": 2}, {}, {"title": 1}]),
    (Loose, [{}, {"a": 1, "b": [{"a": 2}]}, {"b": [{"a": "x"}]}, [], {1: 1}]),
    (Point, [[1], [1, "a"], [], [1, "a", 2], ["x"], {}]),
    (Whole, [[1, 2], [1], [1, "x"]]),
    (Box[int], [{"inside": 1, "more": [2]}, {"inside": "a"}, {"inside": 1, "more": ["x"]}]),
    (Box, [{"inside": "a"}, {}]), (list[Box[Colour]], [[{"inside": "red"}], [{"inside": "green"}]]),
    (Annotated[int, "how many"], [1, "a"]), (Id, [1, "a"]), (T, [1, "a"]),
    (Stranger, [{}, None, 1]), (Stranger | None, [None, 1]), (object, [1, "a"]), (type, [1]),
    (typing.Callable, [1]),
    (Odd, [["a"], 1]), (Nothing, [[], [1]]), (list[Picky], [[b"type"], [b"value"], [b"other"], ["a"]]),
    (OrderedDict, [{}]), (complex, [1]), (typing.Hashable, [1]),
]  # fmt: skip
NO_TYPES: list[Any] = [
    3, "int", Stranger | int, str | bytes, str | Decimal, int | Literal[1] | Size, Colour | Literal["a"], Line | dict,
    Line | Movie, Literal[1.5], Literal[b"a"], typing.NoReturn, typing.ClassVar[int], dict[int, 3], list["Nobody"],  # noqa: F821
]  # fmt: skip


@pytest.mark.parametrize(("hint", "values"), CASES, ids=kind_of)
def test_types_accept_and_refuse_the_same_values(hint: Any, values: list[Any]) -> None:
    for value in values:
        assert_alike(hint, value)


@pytest.mark.parametrize("hint", NO_TYPES, ids=kind_of)
def test_a_hint_that_is_not_a_type_is_refused(hint: Any) -> None:
    for codec in (native, guest):
        with pytest.raises((TypeError, NameError)):
            codec.decoder_for(hint)


@pytest.mark.parametrize("value", VALUES, ids=kind_of)
@pytest.mark.parametrize("hint", [int, float, str, bytes, datetime, date, list[int], set[int], tuple[int, str],
dict[str, int],
                                  Decimal, UUID, timedelta, Line, Slotted, Point, Colour, Size, Movie,
                                  int | None])  # fmt: skip
def test_anything_is_converted_alike(hint: Any, value: Any) -> None:
    """Also values that no decoder returns, because a program may convert anything."""
    assert outcome(guest.convert, value, hint) == outcome(native.convert, value, hint)


@CODECS
def test_a_hint_may_be_unhashable(codec: ModuleType) -> None:
    hint = Annotated[list[int], ["unhashable"]]
    assert codec.decoder_for(hint)(b"\x91\x01") == codec.convert([1], hint) == [1]
    with pytest.raises(InvalidArguments):
        codec.convert(["a"], hint)


def test_the_text_of_a_refusal_says_where() -> None:
    for codec in (native, guest):
        with pytest.raises(InvalidArguments) as caught:
            codec.decode(codec.encode({"a": [{"b": "x"}]}), dict[str, list[dict[str, int]]])
        assert caught.value.reason == "Expected `int`, got `str` - at `$[...][0][...]`"
        with pytest.raises(InvalidArguments) as caught:
            codec.decode(codec.encode({"a": {1: 1}}), dict[str, dict[str, int]])
        assert caught.value.reason == "Expected `str`, got `int` - at `key` in `$[...]`"


@pytest.mark.parametrize(("value", "hint"), [
    ({(1, 2): 3}, dict[list[int], int]), ({"a": {b"x": 1}}, dict[str, dict[bytearray, int]]),
    ({(1, 2): "x"}, dict[list[int], int]), ({"sNaN": 1}, dict[Decimal, int]), ([1, (2, [3])], set[Any]),
    ([10**400], list[float]), (-(10**400), float),
])  # fmt: skip
def test_values_that_no_decoder_returns_are_refused_alike(value: Any, hint: Any) -> None:
    assert outcome(guest.convert, value, hint) == outcome(native.convert, value, hint)


@CODECS
def test_other_values_are_not_converted_to_raw(codec: ModuleType) -> None:
    with pytest.raises(InvalidArguments) as caught:
        codec.convert([1], list[codec.Raw])
    assert caught.value.reason == "Expected `raw`, got `int` - at `$[0]`"


@pytest.mark.parametrize("data", [
    b"\xa1\xff", b"\x91\xa2\xe4\xb8", b"\x81\xa1\xff\x01", b"\xd9\x01\xff",
    b"\x81\x80\x92\x01\x02", b"\x81\x91\x80\xc1",
    b"\xc7\x0c\xff" + (999_999_999).to_bytes(4) + (-62135596801).to_bytes(8, signed=True),
    b"\xc7\x0c\xff" + (999_999_500).to_bytes(4) + (253402300799).to_bytes(8),
    b"\xc7\x0c\xff" + (999_999_499).to_bytes(4) + (253402300799).to_bytes(8),
])  # fmt: skip
def test_malformed_bytes_are_refused_alike(data: bytes) -> None:
    assert outcome(guest.decode, data) == outcome(native.decode, data)


# Any combination of a type and a value

MOMENTS = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01", "01:02:03", "P1DT2S", "1.5", "red", "1", str(UUID(int=5))]
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.integers(-3, 3) | st.floats(allow_nan=False)
    | st.text(max_size=5) | st.binary(max_size=20) | MOMENTS | st.datetimes(timezones=st.just(UTC))
)  # fmt: skip
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | MOMENTS | st.integers(-3, 3), inner, max_size=4)
    ),
    max_leaves=12,
)
RICH = st.recursive(
    LEAVES | st.sampled_from([value for value in VALUES if not isinstance(value, str | bytes | list | dict)])
    | st.decimals(allow_nan=False) | st.uuids() | st.dates() | st.times() | st.timedeltas() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(-5, 5), inner, max_size=4)
    | st.tuples(inner, inner) | st.builds(Line, st.text(), inner),
    max_leaves=12,
)  # fmt: skip
SIMPLE = st.sampled_from([
    Any, None, bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID, Colour, Size,
    Literal["red", 1],
    Line, Movie, Point, Slotted, Loose, Stranger, Word, Lenient, Rights, Nothing, bytearray,
])  # fmt: skip


def either(one: Any, other: Any) -> Any:
    """Return a union, or one type alone if the other is Any, which means the same."""
    return one if Any in (*typing.get_args(one), one, *typing.get_args(other), other) else Union[one, other]  # noqa: UP007


KEYS = st.sampled_from([str, int, Any, Colour, Size, Word, UUID, date, float, Literal["red", "1"], Literal["red", 1],
                        Literal["red"] | Colour, tuple[int, ...], Stranger, int | str | None])  # fmt: skip


def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda item: list[item], inner),
        st.builds(lambda item: set[item], inner),
        st.builds(lambda item: frozenset[item], inner),
        st.builds(lambda item: tuple[item, ...], inner),
        st.builds(lambda first, second: tuple[first, second], inner, inner),
        st.builds(lambda key, item: dict[key, item], KEYS, inner),
        st.builds(lambda item: Box[item], inner),
        st.builds(either, inner, inner),
    )


HINTS = st.recursive(SIMPLE, deeper, max_leaves=5)


@given(RICH)
def test_any_value_has_the_same_bytes(value: Any) -> None:
    assert outcome(guest.encode, value) == outcome(native.encode, value)


@settings(max_examples=400)
@given(HINTS, PLAIN)
@example(list[set[Any]], [[[1, [2]]]])
def test_any_type_accepts_and_refuses_the_same_values(hint: Any, value: Any) -> None:
    assert_alike(hint, value)


@settings(max_examples=400)
@given(st.data())
def test_fitting_values_are_accepted_alike(data: st.DataObject) -> None:
    hint = data.draw(HINTS)
    assert_alike(hint, data.draw(fitting(hint)))


@settings(max_examples=500)
@given(st.binary(max_size=40), HINTS)
@example(b"\xc7\x0c\xff" + b"\xff" * 12, Any)
@example(b"\xd4\xff\x00", str)
@example(b"\xdd\xff\xff\xff\xff", list[int])
@example(b"\xdb\xff\xff\xff\xff\xff", str)
@example(b"\x81\x80\x01", Any)
@example(b"\xc1", Any)
def test_any_bytes_are_a_value_or_invalid(data: bytes, hint: Any) -> None:
    """The reason may differ: the first error in the bytes, or the first one that is found."""
    ours, theirs = outcome(guest.decode, data, hint), outcome(native.decode, data, hint)
    assert ours[0] in ("is", "InvalidArguments", "TypeError")
    if hint is Any:
        assert ours == theirs or ours[0] == theirs[0] == "InvalidArguments"


@given(PLAIN, st.integers(0, 60))
def test_bytes_that_are_cut_short_are_invalid(value: Any, place: int) -> None:
    data = guest.encode(value)
    for codec in (native, guest):
        with pytest.raises(InvalidArguments):
            codec.decode(data[: place % len(data)])
        with pytest.raises(InvalidArguments, match="trailing characters"):
            codec.decode(data + b"\x00")


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    """Generate plain values that often fit this type."""
    args = typing.get_args(hint)
    made: dict[Any, st.SearchStrategy[Any]] = {
        datetime: st.datetimes().map(datetime.isoformat), date: st.dates().map(date.isoformat),
        time: st.times().map(time.isoformat), timedelta: st.sampled_from(["P1D", "-PT1.5S"]), UUID: st.uuids().map(str),
        Decimal: st.decimals().map(str), Colour: st.sampled_from(["red", "blue"]), Size: st.sampled_from([1, 2, 3]),
        Line: st.fixed_dictionaries({"item": st.text(),
        "price": st.just("1.5")}, optional={"count": st.integers(0, 9)}),
        Movie: st.fixed_dictionaries({"title": st.text()}, optional={"year": st.integers(0, 9), "x": PLAIN}),
        Point: st.tuples(st.integers(0, 9), st.text()).map(list), Slotted: st.just({"a": 1, "b": {"a": 2}}),
        int: st.integers(-(2**63), 2**64 - 1), float: st.floats(allow_nan=False), str: st.text(), bytes: st.binary(),
        bool: st.booleans(), None: st.none(), type(None): st.none(), Word: st.sampled_from(["yes", "no"]),
        Rights: st.integers(0, 4), Loose: st.just({"a": 1, "b": [{}]}),
    }  # fmt: skip
    if hint in made:
        return made[hint]
    if typing.get_origin(hint) in (list, set, frozenset) or (args and args[-1] is ...):
        return st.lists(fitting(args[0]), max_size=3)
    if typing.get_origin(hint) is tuple:
        return st.tuples(*map(fitting, args)).map(list)
    if typing.get_origin(hint) is dict:
        keys = st.text() if args[0] in (Any, Stranger) else fitting(args[0])
        return st.dictionaries(keys.map(lambda key: tuple(key) if isinstance(key, list) else key), fitting(args[1]),
                               max_size=3)  # fmt: skip
    if typing.get_origin(hint) is Literal:
        return st.sampled_from(args)
    if typing.get_origin(hint) is Box:
        return st.fixed_dictionaries({"inside": fitting(args[0])}, optional={"more": st.lists(fitting(args[0]))})
    if typing.get_origin(hint) in (Union, UnionType):
        return st.one_of(*map(fitting, sorted(args, key=repr)))
    return PLAIN


def assert_alike(hint: Any, value: Any) -> None:
    data = native.encode(value)
    assert outcome(guest.decode, data, hint) == outcome(native.decode, data, hint)
    plain = native.decode(data)
    assert outcome(guest.convert, plain, hint) == outcome(native.convert, plain, hint)
    assert (guest.schema(hint), hint) == (native.schema(hint), hint)


def outcome(function: Any, *args: Any) -> tuple[str, Any]:
    """Return the value or the error, comparable between the codecs."""
    try:
        return "is", form(function(*args))
    except (InvalidArguments, NotPlainData, TypeError, NameError) as refusal:
        reason = getattr(refusal, "fields", {}).get("reason", "")
        # Two rules of a union are violated at once; either may be named.
        return type(refusal).__name__, "a union" if "Type unions" in reason else reason


def form(value: Any) -> Any:
    """Return a value with the types of everything in it."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(form(key), form(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [form(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, map(form, value)))
    if hasattr(value, "__dataclass_fields__"):
        return kind, [(name, form(getattr(value, name))) for name in value.__dataclass_fields__]
    if kind == "Ext":
        return kind, value.code, value.data
    return kind, bytes(value) if isinstance(value, memoryview) else repr(value)


# Structs as our messages use them


@CODECS
def test_structs_are_made_by_place_and_by_name(codec: ModuleType) -> None:
    class Job(codec.Struct, array_like=True):
        id: int
        name: str = "job"
        parts: list = []  # noqa: RUF012
        data: codec.Raw = codec.Raw(b"\xc0")

    made = iter(range(9))

    class Made(codec.Struct):
        number: int = codec.field(default_factory=made.__next__)

    assert (Made().number, Made(7).number, Made().number) == (0, 7, 1)

    class Numbered(codec.Struct, kw_only=True, eq=False, weakref=True):
        number: int = 0

    class Named(Numbered):
        name: str

    named = Named("a", number=3)
    assert ref(named)() is named
    assert (named.name, named.number, Named.__struct_fields__) == ("a", 3, ("name", "number"))
    assert named != Named("a", number=3)
    assert len({named, Named("a")}) == 2
    with pytest.raises(TypeError):
        Named("a", 3)
    first, second = Job(1), Job(2, name="x", parts=[1])
    first.parts.append(3)
    assert Job(1).parts == []
    assert (first.id, first.name, second.name, second.parts) == (1, "job", "x", [1])
    assert Job(1) == Job(1) != Job(2)
    assert Job.__struct_fields__ == ("id", "name", "parts", "data")
    assert repr(Job(1)).startswith("Job(id=1, name='job', parts=[], data=")
    match second:
        case Job(2, name):
            assert name == "x"
        case _:
            raise AssertionError("no match")
    for args, kwargs in [((), {}), ((1, 2, 3, 4, 5), {}), ((1,), {"z": 1}), ((1,), {"id": 1})]:
        with pytest.raises(TypeError):
            Job(*args, **kwargs)
    with pytest.raises(AttributeError):
        first.other = 1
    with pytest.raises(TypeError):
        hash(first)


@CODECS
def test_frozen_structs_cannot_be_changed(codec: ModuleType) -> None:
    class Still(codec.Struct, frozen=True):
        a: int
        b: str = "b"

    assert hash(Still(1)) == hash(Still(1, "b"))
    with pytest.raises(AttributeError):
        Still(1).a = 2
    assert codec.decode(codec.encode(Still(1)), Still) == Still(1)
    assert codec.decode(codec.encode(Still(1))) == {"a": 1, "b": "b"}


def tagged(codec: ModuleType) -> tuple[Any, Any]:
    class Message(codec.Struct, array_like=True):
        pass

    class One(Message, tag=1):
        id: int
        data: codec.Raw = codec.Raw(b"\x90")
        more: list[int] = []  # noqa: RUF012

    class Two(Message, tag=2):
        one: One | None = None

    return One, Two


@CODECS
def test_a_union_of_tagged_structs(codec: ModuleType) -> None:
    one, two = tagged(codec)
    globals()["One"] = one  # names in type hints are looked up in the module
    decode = codec.decoder_for(list[one | two])
    sent = [one(1), two(one(2, codec.Raw(b"\x92\x01\x02"))), two()]
    data = codec.encode(sent)
    assert data == bytes.fromhex("93 94 01 01 90 90  92 02 94 01 02 92 01 02 90  92 02 c0")
    received = decode(data)
    assert received == sent
    assert codec.decode(received[1].one.data, list[int]) == [1, 2]
    assert decode(bytes.fromhex("91 92 01 05")) == [one(5)]  # from an older end
    assert decode(bytes.fromhex("91 96 01 05 c0 90 81 01 02 a1 78")) == [one(5, codec.Raw(b"\xc0"))]  # from a newer one


@pytest.mark.parametrize("value", [
    [], [[]], [[9]], [["x"]], [[None]], [[True]], [[1]], [[1, "x"]], [[1, 1, 2, ["x"]]], [[1, 1, 2, 3]], [[2, 1]],
    [[2, [1]]],
    [[2, [7, 1]]], [[2, [1, "x"]]], 1, [1], [{}], None, [[2, [1, 2, 3]], [2, 5]],
])  # fmt: skip
def test_structs_refuse_the_same(value: Any) -> None:
    seen = []
    for codec in (native, guest):
        one, two = tagged(codec)
        globals()["One"] = one
        with pytest.raises(codec.DECODE_FAILURES) if value != [] else nullcontext():
            codec.decoder_for(list[one | two])(codec.encode(value))
        seen.append([outcome(codec.decode, codec.encode(value), hint) for hint in (list[one | two], list[two])])
    assert seen[0] == seen[1]


@CODECS
def test_raw_is_an_undecoded_slice(codec: ModuleType) -> None:
    inner = codec.encode({"a": [1, 2]})
    raw = codec.Raw(inner)
    assert (bytes(raw), len(raw), raw, codec.decode(raw)) == (inner, len(inner), codec.Raw(inner), {"a": [1, 2]})
    assert raw != inner
    assert codec.encode([raw, raw]) == b"\x92" + inner * 2
    assert bytes(codec.decode(codec.encode([1, {"b": "c"}]), list[codec.Raw])[1]) == codec.encode({"b": "c"})
    assert codec.decode(memoryview(b"\x00" + inner)[1:]) == codec.decode(bytearray(inner)) == {"a": [1, 2]}
    with pytest.raises(InvalidArguments):
        codec.decode(codec.encode([1])[:-1], list[codec.Raw])
    with pytest.raises(TypeError):
        hash(raw)


@CODECS
def test_a_received_raw_is_decoded_in_place(codec: ModuleType) -> None:
    """Also if bytes follow that could continue it."""
    first, second = codec.decode(b"\x92\x92\x01\x02\xa2xy", list[codec.Raw])
    assert (codec.decode(first), codec.decode(second, str)) == ([1, 2], "xy")
    assert codec.decode(first, list[codec.Raw]) == [codec.Raw(b"\x01"), codec.Raw(b"\x02")]


@CODECS
def test_a_record_takes_a_dict_or_a_list(codec: ModuleType) -> None:
    shared: list[int] = []
    fields = [("a", int, codec.NODEFAULT), ("b", str | None, None), ("c", list[int], shared)]
    by_name, closed = codec.record_type("Payload", fields), codec.record_type("Payload", fields, closed=True)
    in_order = codec.record_type("Payload", fields, as_array=True, closed=True)
    assert codec.values_of(codec.decode(codec.encode({"c": [1], "a": 1, "z": 9}), by_name)) == (1, None, [1])
    assert codec.values_of(codec.decode(codec.encode([1, "b"]), in_order)) == (1, "b", [])
    assert codec.decode(codec.encode({"a": 1}), by_name).c is shared  # as in a Python call
    for kind, value, reason in [
        (closed, {"a": 1, "z": 9}, "Object contains unknown field `z`"),
        (by_name, {}, "Object missing required field `a`"),
        (by_name, {"a": "x"}, "Expected `int`, got `str` - at `$.a`"), (by_name, [], "Expected `object`, got `array`"),
        (in_order, [], "Expected `array` of at least length 1, got 0"),
        (in_order, [1, 2], "Expected `str | null`, got `int` - at `$[1]`"),
        (in_order, [1, None, [], 4], "Expected `array` of at most length 3, got 4"),
    ]:  # fmt: skip
        with pytest.raises(InvalidArguments) as caught:
            codec.decode(codec.encode(value), kind)
        assert caught.value.reason == reason
    with pytest.raises(TypeError):
        codec.decoder_for(codec.record_type("Payload", [("a", 3, codec.NODEFAULT)]))


def made_alike() -> Any:
    """Return different classes with the same name."""

    @dataclass
    class Alike:
        a: int

    return Alike


@dataclass
class Told:
    """What is said of it.

        Deeper in,
    \tand back.

    """

    data: bytes = b"x"
    made: datetime = datetime(2026, 1, 1, 2, 3, 4, 5, tzinfo=UTC)
    by_number: dict[int, list[bytes]] = field(default_factory=dict)
    known: Any = field(default_factory=set)
    rights: Rights = Rights.READ


@pytest.mark.parametrize("hint", [
    Told, list[Nothing], dict[Rights, Word], tuple[made_alike(), made_alike(), made_alike()],
    tuple[Box[made_alike()], Box[made_alike()]], dict[Annotated[str, "a key"], int], dict[Word | None, int],
])  # fmt: skip
def test_classes_have_the_same_schema(hint: Any) -> None:
    assert guest.schema(hint) == native.schema(hint) != {}


def test_records_have_the_same_schema() -> None:
    given = [
        ("a", Order, None),
        ("b", Colour | None, Colour.RED),
        ("c", Movie, {}),
        ("d", Point, []),
        ("e", Box[int], 1),
    ]
    for closed in (False, True):
        seen = [
            codec.schema(codec.record_type("Arguments", [("x", int, codec.NODEFAULT), *given], closed=closed))
            for codec in (native, guest)
        ]
        assert seen[0] == seen[1]
        assert seen[0]["$defs"]


@CODECS
def test_types_are_cached_and_forgotten(codec: ModuleType) -> None:
    assert codec.decode(b"\x91\x01", list[int]) == [1]
    codec.forget_types()
    assert codec.decode(b"\x91\x01", list[int]) == [1]
    assert codec.encode(Line("a", Decimal(1))) == codec.encode(Line("a", Decimal(1)))


class Pair(NamedTuple):
    a: Any
    b: int = 0


@CODECS
def test_lists_are_tuples_where_they_must_be_hashable_and_only_there(codec: ModuleType) -> None:
    data = codec.encode([[[1], 2]])
    assert codec.decode(data, set[Pair]) == {Pair((1,), 2)}
    assert codec.decode(data, list[Pair]) == [Pair([1], 2)]
    assert codec.decode(codec.encode({(1, (2,)): [3]})) == {(1, (2,)): [3]}


@CODECS
def test_plain_text_can_be_encoded(codec: ModuleType) -> None:
    assert codec.plain_text("a\ud800b") == "a\\ud800b"
    assert codec.plain_text("x" * 9, 5) == "xxxxx …"
    assert (bool(codec.UNSET), repr(codec.NODEFAULT)) == (False, "NODEFAULT")


@CODECS
def test_a_typed_text_without_a_specific_hint_is_its_own_value(codec: ModuleType) -> None:
    data = codec.encode({"a": CommandText("1.10"), "b": [CommandText("né"), CommandText("null")]})
    assert codec.decode(data) == {"a": 1.1, "b": ["né", None]}
    assert codec.decode_with_texts(data)["a"] == "1.10"
    assert type(codec.decode_with_texts(data)["a"]) is CommandText
    assert type(codec.decode(data)["b"][0]) is str


@CODECS
@pytest.mark.parametrize("hint", [str, int, Decimal, list[str], str | None])
def test_a_type_refuses_a_typed_text_so_that_it_is_converted_first(codec: ModuleType, hint: typing.Any) -> None:
    with pytest.raises(InvalidArguments, match="got `ext`"):
        codec.decode(codec.encode(CommandText("5")), hint)


@CODECS
@pytest.mark.parametrize("data", [b"\xc7\x00\x02", b"\xd4\x02\xff", b"\xd5\x02[[", b"\xc7\x03\x02{,}"])
def test_malformed_bytes_of_a_typed_text_decode_to_some_text(codec: ModuleType, data: bytes) -> None:
    assert isinstance(codec.decode(data), str)


def test_both_have_the_same_names() -> None:
    assert {name for name in vars(native) if not name.startswith("_")} - {
        "Any", "Callable", "Iterable", "Mapping", "Protocol", "Sequence", "T", "TypeVar", "annotations", "date",
        "datetime", "time", "timedelta", "Decimal", "UUID", "lru_cache", "msgspec", "partial",
        "InvalidArguments", "NotPlainData", "PayloadTooLarge", "TEXT", "CommandText", "from_bytes", "valid_text",
    } == set(guest.__all__)  # fmt: skip
