"""Numbers of other classes are plain values; an object that cannot be sent is refused with a replacement."""

from __future__ import annotations

import ipaddress
import pathlib
import re
from array import array
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, IntFlag, StrEnum
from fractions import Fraction
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from microkernel.errors import NotPlainData
from microkernel.guest import codec as guest
from microkernel.wire import codec as native

CODECS = pytest.mark.parametrize("codec", [native, guest], ids=["native", "guest"])
EAST = timezone(timedelta(hours=8))
WEST = timezone(timedelta(hours=-8))


class Whole(int): ...


class Real(float): ...


class Text(str): ...


class Data(bytes): ...


class Moment(datetime): ...


class Day(date): ...


class Clock(time): ...


class Span(timedelta): ...


class Price(Decimal): ...


class Size(IntEnum):
    ONE = 1


class Word(StrEnum):
    YES = "yes"


class Bits(IntFlag):
    A = 1
    B = 2


class Stamp(datetime):
    """Like pandas's."""

    nanosecond = 0


class Model:
    """Like pydantic's."""

    def model_dump(self) -> dict[str, Any]:
        return {"a": np.int64(1), "inner": [Real(1.5)]}


NUMBERS: list[tuple[Any, Any]] = [
    (np.float64(1.5), 1.5), (np.float32(1.5), 1.5), (np.float16(1.5), 1.5), (np.longdouble(1.5), 1.5),
    (np.float64("nan"), float("nan")),
    (np.float64("inf"), float("inf")), (np.int64(-5), -5), (np.int8(-5), -5), (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True), (np.bool_(False), False), (np.str_("x"), "x"), (np.bytes_(b"x"), b"x"),
    (np.array(7), 7), (Whole(5), 5), (Whole(-(2**63)), -(2**63)), (Real(1.5), 1.5), (Text("x"), "x"),
    (Data(b"x"), b"x"),
    (Size.ONE, 1), (Word.YES, "yes"), (Bits.A | Bits.B, 3), (Day(2026, 1, 2), "2026-01-02"),
    (Moment(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05.000006"), (Clock(1, 2, 3), "01:02:03"),
    (Span(seconds=90), "PT90S"), (Price("1.10"), "1.10"), (Stamp(2026, 1, 2), "2026-01-02T00:00:00"),
    (Model(), {"a": 1, "inner": [1.5]}),
]  # fmt: skip


@CODECS
@pytest.mark.parametrize(("value", "plain"), NUMBERS, ids=lambda value: type(value).__name__)
def test_numbers_texts_and_datetimes_of_other_classes_are_plain(codec: ModuleType, value: Any, plain: Any) -> None:
    for payload, wanted in ((value, plain), ({"deep": [value]}, {"deep": [plain]})):
        got = codec.decode(codec.encode(payload))
        assert repr(got) == repr(wanted)
        assert codec.encode(payload) == native.encode(wanted)
        assert codec.encode_with(payload, lambda _: None) == (native.encode(wanted), ())


@CODECS
@pytest.mark.parametrize("key", [np.int64(1), Whole(1), Text("a"), np.str_("a"), Size.ONE])
def test_keys_of_other_classes_are_plain(codec: ModuleType, key: Any) -> None:
    assert codec.encode({key: 1}) == native.encode({("a" if isinstance(key, str) else 1): 1})


@CODECS
def test_a_datetime_keeps_its_timezone(codec: ModuleType) -> None:
    moment = Moment(2026, 1, 2, 3, tzinfo=EAST)
    assert codec.decode(codec.encode(moment), datetime) == moment


class Pair(NamedTuple):
    left: Any


def frame(**methods: Any) -> Any:
    return type("Frame", (), methods)()


CURES: list[tuple[Callable[[], Any], str]] = [
    (lambda: pathlib.Path("/a"), "str()"), (lambda: ipaddress.ip_address("10.0.0.1"), "str()"),
    (lambda: ipaddress.ip_network("10.0.0.0/8"), "str()"), (lambda: Fraction(1, 3), "str()"),
    (lambda: re.compile("a"), "str()"), (lambda: deque([1]), "list()"), (lambda: range(3), "list()"),
    (lambda: {}.keys(), "list()"), (lambda: (n for n in "a"), "list()"), (lambda: array("i"), "list()"),
    (lambda: np.array([1, 2]), ".tolist() or api.share()"), (lambda: np.array([[1.5]]), ".tolist() or api.share()"),
    (lambda: memoryview(b"abcdef")[::2], ".tobytes()"), (lambda: 1j, "[.real, .imag]"),
    (lambda: np.complex128(1j), "[.real, .imag]"), (lambda: datetime.min.replace(tzinfo=EAST), ".isoformat()"),
    (lambda: datetime.max.replace(tzinfo=WEST), ".isoformat()"), (lambda: 2**64, "str()"),
    (lambda: ValueError("x"), "str()"), (lambda: int, ".__name__"), (lambda: SimpleNamespace(a=1), "str() or vars()"),
    (lambda: np.uint64, ".__name__"), (lambda: frame(to_records=None), '.to_dict("list")'),
    (lambda: np.datetime64("2026-01-01"), ".tolist()"),
]  # fmt: skip


@CODECS
@pytest.mark.parametrize(("make", "cure"), CURES)
def test_the_error_suggests_what_to_send_instead(codec: ModuleType, make: Callable[[], Any], cure: str) -> None:
    for wrap, path in ((lambda v: v, "the payload"), (lambda v: {"a": [v]}, ".a[0]"), (lambda v: Pair(v), "[0]")):
        with pytest.raises(NotPlainData) as refused:
            codec.encode(wrap(make()))
        assert refused.value.path == path
        assert f"; send instead: {cure}" in refused.value.text
        assert "→" not in refused.value.text


@CODECS
def test_lossy_conversions_are_refused(codec: ModuleType) -> None:
    late = Stamp(2026, 1, 2)
    late.nanosecond = 5
    with pytest.raises(NotPlainData, match="isoformat"):
        codec.encode(late)


@CODECS
@pytest.mark.parametrize("value", [lambda: None, len, ..., object(), "\ud800"])
def test_without_a_known_replacement_nothing_is_suggested(codec: ModuleType, value: Any) -> None:
    with pytest.raises(NotPlainData) as refused:
        codec.encode([value])
    assert refused.value.path == "[0]"
