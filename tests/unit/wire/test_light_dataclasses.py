"""Classes of ``light_dataclasses`` behave like those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, is_dataclass, replace
from typing import Any
from weakref import ref

import pytest

from microkernel.wire import light_dataclasses
from microkernel.wire.codec import encode

Make = Callable[..., Any]
MAKERS: list[Make] = [dataclasses.dataclass, light_dataclasses.dataclass]


def point(make: Make) -> Any:
    @make(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 2
        tags: list[str] = field(default_factory=list)
        note: str = field(default="", compare=False, repr=False)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("below zero")

    return Point


def cell(make: Make) -> Any:
    @make(slots=True, weakref_slot=True)
    class Cell:
        value: int = 0
        log: list[int] = field(init=False)

    return Cell


@light_dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """It can be pickled."""

    one: int
    two: tuple[int, ...] = ()


@light_dataclasses.dataclass(eq=False, slots=True)
class Same:
    value: int = 0


@light_dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Own:
    value: int = 0

    def __repr__(self) -> str:
        return "own"

    def __hash__(self) -> int:
        return 7


@pytest.mark.parametrize("make", MAKERS)
def test_frozen(make: Make) -> None:
    kind = point(make)
    made = kind(1, tags=["a"])
    assert repr(made).endswith("Point(x=1, y=2, tags=['a'])")
    assert made == kind(1, 2, ["a"], "not compared") != kind(2, 2, ["a"])
    assert made != (1, 2, ["a"])
    assert asdict(made) == {"x": 1, "y": 2, "tags": ["a"], "note": ""}
    assert replace(made, y=5) == kind(1, 5, ["a"])
    assert kind.__match_args__ == ("x", "y", "tags", "note")
    assert is_dataclass(made)
    assert [each.name for each in fields(made)] == list(kind.__slots__) == ["x", "y", "tags", "note"]
    assert kind(1).tags is not kind(1).tags
    assert list(inspect.signature(kind).parameters) == ["x", "y", "tags", "note"]
    assert inspect.signature(kind).parameters["x"].annotation == "int"
    assert str(inspect.signature(kind)).endswith("tags: 'list[str]' = <factory>, note: 'str' = '') -> None")
    assert encode(made) == encode({"x": 1, "y": 2, "tags": ["a"], "note": ""})
    assert copy.deepcopy(made) == made
    for change in (lambda: setattr(made, "x", 2), lambda: delattr(made, "x")):
        with pytest.raises(FrozenInstanceError, match="'x'"):
            change()
    with pytest.raises((AttributeError, TypeError)):
        made.other = 1
    with pytest.raises(ValueError, match="below zero"):
        kind(-1)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'x'"):
        kind()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        kind(1, z=2)
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(made)


@pytest.mark.parametrize("make", MAKERS)
def test_mutable(make: Make) -> None:
    kind = cell(make)
    made = kind(3)
    made.value += 1
    made.log = []
    assert made.value == 4
    assert ref(made)() is made
    assert kind.__hash__ is None
    with pytest.raises(AttributeError):
        made.other = 1


def test_the_rest() -> None:
    kept = Kept(1, (2,))
    assert pickle.loads(pickle.dumps(kept)) == kept
    assert hash(kept) == hash(Kept(1, (2,)))
    assert Same() != Same()
    assert hash(Same())
    assert (repr(Own()), hash(Own()), Own() == Own()) == ("own", 7, True)
    match kept:
        case Kept(one, (two,)):
            assert (one, two) == (1, 2)
        case _:
            raise AssertionError
    with pytest.raises(TypeError, match="cannot inherit"):
        dataclasses.dataclass(type("Child", (Kept,), {"__annotations__": {}}))
    with pytest.raises(TypeError, match="slots"):
        light_dataclasses.dataclass(slots=False)
