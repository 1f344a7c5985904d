"""``async`` handlers of the embedding program run on its event loop; they are refused where they cannot run."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import ConfigError, KernelError, PluginLoadError


class Caller:
    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []
        self.all = asyncio.Event()

    async def __call__(self, number: int) -> None:
        await asyncio.sleep(0)
        self.heard.append((number, threading.get_ident()))
        if len(self.heard) == 100:
            self.all.set()


def shapes(caller: Caller) -> list[Callable[..., Any]]:
    async def function(number: int) -> None:
        await caller(number)

    async def more(extra: str, number: int) -> None:
        await caller(number)

    return [caller, function, functools.partial(more, "extra"), functools.partial(caller), caller.__call__]


@pytest.mark.parametrize("shape", range(5))
def test_async_handlers_run_on_the_running_loop_in_order(tmp_path: Path, shape: int) -> None:
    async def main() -> None:
        caller = Caller()
        async with Kernel(tmp_path) as kernel:
            kernel.on("a.b", shapes(caller)[shape])
            for number in range(100):
                kernel.emit("a.b", number=number)
            await asyncio.wait_for(caller.all.wait(), 30)
        assert caller.heard == [(number, threading.get_ident()) for number in range(100)]

    asyncio.run(main())


def test_queued_events_are_handled_before_close_returns(tmp_path: Path) -> None:
    async def main() -> list[int]:
        heard: list[int] = []

        async def hear(number: int) -> None:
            await asyncio.sleep(0.001)
            heard.append(number)

        async with Kernel(tmp_path) as kernel:
            kernel.on("a.b", hear)
            for number in range(20):
                kernel.emit("a.b", number=number)
        return heard

    assert asyncio.run(main()) == list(range(20))


def test_an_ask_gets_the_value_of_an_async_handler(tmp_path: Path) -> None:
    source = (
        "from microkernel import IPlugin, expose\n"
        "class Plugin(IPlugin):\n"
        "    def start(self): ...\n"
        "    def stop(self): ...\n"
        "    @expose\n"
        "    def ask(self): return [reply.value for reply in self.api.ask('a.b', number=20)]\n"
    )
    (tmp_path / "asker.py").write_text(source)

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def main() -> Any:
        async with Kernel(tmp_path, isolation="thread") as kernel:
            kernel.on("a.b", double)
            return await kernel.acall("asker.ask")

    assert asyncio.run(main()) == [40]


def test_an_exception_of_an_async_handler_is_reported(tmp_path: Path) -> None:
    async def broken(number: int) -> None:
        raise ZeroDivisionError(number)

    async def main() -> None:
        async with Kernel(tmp_path, raise_handler_errors=True) as kernel:
            kernel.on("a.b", broken)
            kernel.emit("a.b", number=1)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


async def never(number: int) -> None:
    await asyncio.sleep(3600)


def test_close_on_the_handlers_loop_cancels_the_handler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("microkernel.embedder.handlers._CLOSE_TIMEOUT", 3600.0)

    async def main() -> None:
        with Kernel(tmp_path) as kernel:
            kernel.on("a.b", never)
            kernel.emit("a.b", number=1)
            kernel.emit("a.b", number=2)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert "never(a.b)" in caplog.text


def test_other_handlers_run_after_a_loop_was_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = threading.Event()

    async def register(kernel: Kernel) -> None:
        kernel.on("a.b", never)
        kernel.emit("a.b", number=1)
        await asyncio.sleep(0)

    with Kernel(tmp_path) as kernel:
        asyncio.run(register(kernel))
        kernel.on("a.b", lambda number: heard.set())
        kernel.emit("a.b", number=2)
        assert heard.wait(30)
    assert "never(a.b)" in caplog.text


def test_an_async_handler_without_a_running_loop_is_refused(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        for handler in never, Caller(), functools.partial(never, 1):
            for inline in False, True:
                with pytest.raises(ConfigError) as refused:
                    kernel.on("a.b", handler, inline=inline)
                assert refused.value.id == "MK0628"
        assert not kernel.core.topics.matches["a.b"]


def test_an_inline_async_handler_is_refused(tmp_path: Path) -> None:
    async def main() -> KernelError:
        async with Kernel(tmp_path) as kernel:
            with pytest.raises(ConfigError) as refused:
                kernel.on("a.b", never, inline=True)
            return refused.value

    assert asyncio.run(main()).id == "MK0628"


def yields(number: int) -> Iterator[int]:
    yield number


async def yields_too(number: int) -> AsyncIterator[int]:
    yield number


@pytest.mark.parametrize("inline", [False, True])
def test_a_generator_function_is_refused_as_a_handler(tmp_path: Path, inline: bool) -> None:
    with Kernel(tmp_path) as kernel:
        for handler in yields, yields_too, functools.partial(yields, 1):
            with pytest.raises(PluginLoadError) as refused:
                kernel.on("a.b", handler, inline=inline)
            assert refused.value.id == "MK0133"
        not_a_function: Any = 5
        with pytest.raises(TypeError, match="a function is needed, got int"):
            kernel.on("a.b", not_a_function, inline=inline)
        assert not kernel.core.topics.matches["a.b"]


def test_a_plain_function_that_returns_a_coroutine_is_an_error(tmp_path: Path) -> None:
    """It would never run, because ``lambda x: later(x)`` is not an async function."""

    async def later(x: int) -> None: ...

    kernel = Kernel(tmp_path, raise_handler_errors=True)
    kernel.open()
    kernel.on("t", lambda x: later(x))
    kernel.emit("t", x=1)
    with pytest.raises(TypeError, match="register the async function itself"):
        kernel.close()
