"""Marked methods are registered, or refused by name; other attributes are not evaluated."""

from __future__ import annotations

from typing import Any

import pytest

from microkernel.errors import InvalidArguments, PluginLoadError
from microkernel.sdk.decorators import every, expose, marked_members, on
from microkernel.testing import run_plugin

HEAD = """
import functools
from microkernel import Event, IPlugin, PluginAPI, every, expose, on
"""
METHODS = (
    HEAD
    + """
def helper(factor: int, number: int) -> int:
    return factor * number

class Caller:
    def __call__(self, number: int) -> int:
        return 10 * number

class AsyncCaller(Caller):
    async def __call__(self, number: int) -> int:
        return 10 * number

class Inheriting(AsyncCaller): ...

class Plugin(IPlugin):
    def __init__(self, api: PluginAPI) -> None:
        self.heard = []
        self.api = api
    def start(self) -> None: ...
    def stop(self) -> None: ...

    @expose
    @staticmethod
    def static_below(number: int) -> int: return 10 * number
    @staticmethod
    @expose
    def static_above(number: int) -> int: return 10 * number
    @expose
    @classmethod
    def class_below(cls, number: int) -> int: return 10 * number
    @classmethod
    @expose
    def class_above(cls, number: int) -> int: return 10 * number
    @expose
    @staticmethod
    async def static_async(number: int) -> int: return 10 * number
    @expose(name="renamed")
    @functools.lru_cache
    def cached(self, number: int) -> int: return 10 * number
    @functools.lru_cache
    @expose
    def cached_above(self, number: int) -> int: return 10 * number
    def multiply(self, factor: int, number: int) -> int: return factor * number
    partial_method = expose(functools.partialmethod(multiply, 10))
    partial_function = expose(functools.partial(helper, 10))
    caller = expose(Caller())
    async_caller = expose(AsyncCaller())
    inheriting = expose(Inheriting())
    wrapped = expose(functools.partial(AsyncCaller()))
    a_lambda = expose(lambda self, number: 10 * number)

    @on("hit")
    @staticmethod
    def heard_static(number: int) -> int: return 10 * number
    @on("hit")
    @classmethod
    def heard_class(cls, number: int) -> int: return 10 * number
    heard_partial = on("hit")(functools.partial(helper, 10))
    heard_method = on("hit")(functools.partialmethod(multiply, 10))
    heard_object = on("hit")(Caller())
"""
)
NAMES = (
    "static_below", "static_above", "class_below", "class_above", "static_async", "renamed", "cached_above",
    "partial_method", "partial_function", "caller", "async_caller", "inheriting", "wrapped", "a_lambda",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor:FutureWarning")  # since 3.13
@pytest.mark.parametrize("level", ["thread", "process"])
def test_a_wrapped_method_keeps_its_mark(level: Any) -> None:
    with run_plugin(METHODS, level) as kernel:
        for name in NAMES:
            assert kernel.call(f"plugin.{name}", 4) == 40, name
            assert kernel.call(f"plugin.{name}", number=4) == 40, name
        for name in set(NAMES) - {"a_lambda"}:
            with pytest.raises(InvalidArguments, match="number"):
                kernel.call(f"plugin.{name}", "four")
        assert [reply.value for reply in kernel.ask("hit", number=4)] == [40] * 5


REFUSED = {
    "a property below": ("@expose\n    @property\n    def x(self): return 1", "a property"),
    "a property above": ("@property\n    @expose\n    def x(self): return 1", "a property"),
    "a cached property above": ("@functools.cached_property\n    @expose\n    def x(self): ...", "a cached_property"),
    "a cached property below": ("@on('a')\n    @functools.cached_property\n    def x(self): ...", "cached_property"),
    "no topic": ("@on\n    def x(self): ...", '@on needs a topic: @on("order.created")'),
    "no seconds": ("@every\n    def x(self): ...", "@every needs seconds"),
    "a name": ('@expose("y")\n    def x(self): ...', "@expose(name='y')"),
    "built in": ("x = expose(len)", "a builtin_function_or_method cannot be marked"),
    "a value": ("class Value: ...\n    x = expose(Value())", "Plugin.x is marked with @on"),
    "a generator": ("@on('a')\n    def x(self): yield", "Plugin.x is a generator function"),
    "a timer that yields": ("@every(1)\n    async def x(self): yield", "Plugin.x is a generator function"),
    "a method that yields": ("@expose\n    def x(self): yield 1", "Plugin.x is a generator function"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_attribute_that_cannot_be_registered_is_refused_by_name(what: str) -> None:
    body, said = REFUSED[what]
    source = f"{HEAD}\nclass Plugin(IPlugin):\n    def start(self): ...\n    def stop(self): ...\n    {body}\n"
    with pytest.raises(PluginLoadError) as refused, run_plugin(source):
        pass
    assert said in str(refused.value)


class Counting:
    """A property of a class, evaluated at each access."""

    def __init__(self) -> None:
        self.evaluated = 0

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        self.evaluated += 1
        raise RuntimeError("evaluated")


def test_unmarked_attributes_are_not_evaluated() -> None:
    count = Counting()

    class Sample:
        lazy = count

        @property
        def broken(self) -> int:
            raise RuntimeError("evaluated")

        @expose
        def method(self) -> None: ...

    assert [mark for _, mark in marked_members(Sample())]
    assert count.evaluated == 0


def test_a_plugin_loads_despite_a_class_property_that_raises() -> None:
    source = (
        HEAD
        + """
class Lazy:
    def __get__(self, instance, owner=None):
        raise RuntimeError("evaluated")

class Plugin(IPlugin):
    lazy = Lazy()
    def start(self): ...
    def stop(self): ...
    @property
    def broken(self): raise RuntimeError("evaluated")
    @expose
    def ping(self): return "pong"
"""
    )
    with run_plugin(source) as kernel:
        assert kernel.call("plugin.ping") == "pong"


def test_marks_are_yielded_in_the_order_written() -> None:
    class Base:
        @on("one")
        def one(self) -> None: ...

        @on("hidden")
        def hidden(self) -> None: ...

    class Sample(Base):
        @every(5)
        @on("two")
        def two(self) -> None: ...

        def hidden(self) -> None: ...

    assert [getattr(mark, "topic", "beat") for _, mark in marked_members(Sample())] == ["one", "two", "beat"]


def test_a_function_under_two_names_is_exposed_by_its_own() -> None:
    class Sample:
        @expose
        def first(self) -> None: ...

        second = first

    assert {mark.name for _, mark in marked_members(Sample())} == {"first"}


def test_api_registers_partials_and_refuses_generators() -> None:
    source = (
        HEAD
        + """
def helper(api, name: str): api.emit("heard", name=name)
def yields(name: str): yield name

class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self):
        self.api.on("hello", functools.partial(helper, self.api))
        self.api.expose(functools.partial(str.upper, "abc"), "upper")
        for register in (lambda: self.api.on("hello", yields), lambda: self.api.expose(yields),
                         lambda: self.api.every(1, yields)):
            try: register()
            except Exception as error: assert "MK0133" in str(error)
            else: raise AssertionError("it was registered")
    def stop(self): ...
"""
    )
    heard: list[str] = []
    with run_plugin(source) as kernel:
        kernel.on("heard", lambda name: heard.append(name), inline=True)
        assert kernel.call("plugin.upper") == "ABC"
        kernel.emit("hello", name="Ada")
        assert kernel.call("plugin.upper") == "ABC"  # comes after the event
    assert heard == ["Ada"]
