"""Type hints that no payload fits are refused at registration, with the parameter's name and an alternative."""

import abc
import enum
import ipaddress
import pathlib
import typing
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, ParamSpec, Protocol, TypedDict, TypeVar

import msgspec
import numpy as np
import pydantic
import pytest

from microkernel import Buffer, Event, Kernel
from microkernel.errors import CallFailed, InvalidArguments, PluginLoadError
from microkernel.sdk.binding.signature import CallBinder, EventBinder
from microkernel.testing import run_plugin

T = TypeVar("T")
P = ParamSpec("P")
Cents = NewType("Cents", int)


class Anything: ...


class Shaped(Protocol):
    def area(self) -> float: ...


class Base(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


@dataclass
class Node:
    value: int
    next: "Node | None" = None


@dataclass
class Holds:
    where: pathlib.Path


@dataclass
class Box(Generic[T]):
    inner: T


class Row(TypedDict):
    where: list[pathlib.Path]


class Pair(NamedTuple):
    left: Anything


class Plain(TypedDict):
    a: int


class Record(msgspec.Struct):
    a: int


class Model(pydantic.BaseModel):
    number: int
    when: datetime | None = None
    inner: list["Model"] = []


class Size(enum.Enum):
    SMALL = "small"


class Stamp(datetime): ...


REFUSED: list[tuple[Any, str, str]] = [
    (Anything, "Anything", "str, dict or a dataclass"), (Shaped, "Shaped", ""), (Base, "Base", ""),
    (Callable[[int], int], "Callable", ""), (Callable, "Callable", ""),
    (np.ndarray, "ndarray", "list[float] or Buffer"),
    (np.float64, "float64", "float"), (pathlib.Path, "Path", "str"), (ipaddress.IPv4Address, "IPv4Address", "str"),
    (deque, "deque", "list"), (deque[int], "deque[int]", "list"), (OrderedDict, "OrderedDict", "dict"),
    (complex, "complex", ""), (range, "range", "list"), (type[int], "type[int]", ""), (Stamp, "Stamp", "datetime"),
    (Holds, "Path", "str"), (Row, "Path", "str"), (Pair, "Anything", ""),
    (Box[pathlib.Path], "Path", "str"), (list[Anything], "Anything", ""), (dict[str, list[Anything]], "Anything", ""),
    (tuple[int, ...] | list[Anything], "Anything", ""), (Anything | None, "Anything", ""),
    (Annotated[pathlib.Path, "where"], "Path", "str"),
    (Anything | int, "Anything", ""),
]  # fmt: skip
UNREADABLE: list[Any] = [
    typing.Self, typing.Never, typing.AnyStr, P.args, "Nowhere", "list[Nowhere]", pydantic.BaseModel | str,
]  # fmt: skip
TAKEN: list[Any] = [
    Any, object, int, float, str, bytes, bytearray, datetime, Size, Literal["a"], Cents, T, list[int], Sequence[int],
    Iterable, typing.Hashable, typing.Sized, dict[str, Any], tuple[int, ...], set[str], Node, Box[int], Box, Plain,
    Record, Model, list[Model], Model | None, Buffer, Annotated[int, msgspec.Meta(gt=1)], None, int | str | None,
]  # fmt: skip


def handler(hint: Any) -> Callable[..., Any]:
    def handle(number: int, thing: Any) -> None: ...

    handle.__annotations__["thing"] = hint
    return handle


BINDERS = pytest.mark.parametrize("binder", [CallBinder, EventBinder])


@BINDERS
@pytest.mark.parametrize(("hint", "name", "cure"), REFUSED, ids=lambda value: str(value)[:30])
def test_a_hint_that_no_payload_fits_is_refused(binder: Any, hint: Any, name: str, cure: str) -> None:
    with pytest.raises(PluginLoadError) as refused:
        binder(handler(hint))
    assert refused.value.id == "MK0136"
    assert (refused.value.parameter, refused.value.what) == ("thing", "handler.handle")
    assert name in refused.value.hint
    assert cure in refused.value.cure


@BINDERS
@pytest.mark.parametrize("hint", UNREADABLE, ids=str)
def test_a_hint_that_the_codec_cannot_read_is_refused(binder: Any, hint: Any) -> None:
    with pytest.raises(PluginLoadError) as refused:
        binder(handler(hint))
    assert refused.value.id == "MK0122"


@BINDERS
@pytest.mark.parametrize("hint", TAKEN, ids=lambda value: str(value)[:30])
def test_a_hint_that_payloads_fit_is_accepted(binder: Any, hint: Any) -> None:
    binder(handler(hint))


def test_only_parameters_filled_from_payloads_are_checked() -> None:
    def whole(*args: Anything) -> None: ...
    def rest(event: Event, **rest: Anything) -> Anything: ...

    EventBinder(whole)
    EventBinder(rest)
    with pytest.raises(PluginLoadError, match="args"):
        CallBinder(whole)


HEAD = """
import pathlib
from microkernel import IPlugin, expose, on
import pydantic

class Model(pydantic.BaseModel):
    number: int
    inner: list["Model"] = []

class Plugin(IPlugin):
    def start(self): ...
    def stop(self): ...
"""


@pytest.mark.parametrize("level", ["thread", "process"])
def test_a_pydantic_model_is_received_and_sent(level: Any) -> None:
    source = (
        HEAD
        + """
    @expose
    def double(self, model: Model, more: list[Model]) -> Model:
        assert type(model) is Model and type(more[0]) is Model
        return Model(number=2 * model.number, inner=more)
    @on("sent")
    def sent(self, model: Model | None) -> None:
        self.api.emit("heard", number=model.number)
"""
    )
    heard: list[int] = []
    with run_plugin(source, level) as kernel:
        kernel.on("heard", lambda number: heard.append(number), inline=True)
        got = kernel.call("plugin.double", {"number": "4"}, [Model(number=1)], returns=Model)
        assert (got.number, got.inner[0].number) == (8, 1)
        with pytest.raises(InvalidArguments, match=r"model: number: Field required"):
            kernel.call("plugin.double", {"numbers": 4}, [])
        kernel.emit("sent", model=Model(number=5))
        kernel.emit("sent", model={"number": "many"})
        kernel.call("plugin.double", {"number": 1}, [{"number": 1}])
        assert heard == [5]
        assert len(kernel.dead_letters()) == 1


def test_a_plugin_with_an_impossible_hint_does_not_load() -> None:
    for mark in "@expose", '@on("a.b")':
        source = f"{HEAD}\n    {mark}\n    def save(self, where: pathlib.Path) -> None: ...\n"
        with pytest.raises(PluginLoadError) as refused, run_plugin(source):
            pass
        assert refused.value.id == "MK0136"
        assert "Plugin.save: no payload fits the hint of `where`: Path; annotate it as str" in refused.value.text


def test_an_impossible_hint_raises_in_a_running_plugin_and_the_embedder(tmp_path: pathlib.Path) -> None:
    source = (
        HEAD
        + """
    @expose
    def register(self) -> None:
        def late(where: pathlib.Path) -> None: ...
        self.api.on("a.b", late)
"""
    )
    with run_plugin(source) as kernel, Kernel(tmp_path) as other:
        with pytest.raises(CallFailed, match="MK0136"):
            kernel.call("plugin.register")

        def late(where: pathlib.Path) -> None: ...

        for inline in False, True:
            with pytest.raises(PluginLoadError, match="MK0136"):
                other.on("a.b", late, inline=inline)
