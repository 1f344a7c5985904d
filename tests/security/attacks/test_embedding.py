"""Inside other programs: quiet, complete, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import ConfigError, KernelClosed, KernelError, PluginNotActive
from tests.harness.leftovers import descendants, gone
from tests.security.attacks.support import Plugins, Script, eventually

BOTH = pytest.mark.parametrize("level", ["thread", "process"])


@BOTH
def test_kernel_works_in_an_asyncio_program(plugins: Plugins, level: str) -> None:
    plugins.healthy()
    plugins.add("slow", """
        import asyncio
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): pass
            def stop(self): pass
            @expose
            async def wait(self, n: int):
                await asyncio.sleep(0.001 * (n % 7))
                return n
    """)  # fmt: skip

    async def main() -> None:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.005)
                beats += 1

        pulse = asyncio.create_task(beat())
        async with plugins.kernel(level) as kernel:
            calls = [kernel.acall("slow.wait", n, timeout=30) for n in range(3000)]
            calls += [kernel.acall("healthy.answer", number=n, timeout=30) for n in range(500)]
            assert await asyncio.gather(*calls) == [*range(3000), *range(1, 501)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(kernel.acall("slow.wait", 6, timeout=30), 0.0001)
            for info in kernel.list():
                eventually(lambda n=info.name: kernel.info(n).waiting == 0)
            assert not kernel.core.calls.pending
        pulse.cancel()
        assert beats > 0

    asyncio.run(main())


PLAIN = """
import os, signal, sys, threading
print("begun", flush=True)
handlers = [signal.getsignal(n) for n in range(1, 32)]
interval = sys.getswitchinterval()
from microkernel import Kernel
kernel = Kernel({folder!r})
with kernel:
    assert kernel.call("healthy.answer") == 42
    kernel.emit("attack.x")
    assert [signal.getsignal(n) for n in range(1, 32)] == handlers
    assert sys.getswitchinterval() == interval
    links = ["/proc/self/fd/" + fd for fd in os.listdir("/proc/self/fd")]
    sockets = [os.readlink(link) for link in links if os.path.islink(link)]
    with open("/proc/net/unix") as table: names = table.read()
    assert not [s for s in sockets if s.startswith("socket:") and any(
        line.split()[6:7] == [s[8:-1]] and len(line.split()) > 7 for line in names.splitlines())]
try:
    kernel.list()
except Exception as error:
    assert type(error).__name__ == "KernelClosed"
else:
    raise SystemExit("it answers after its end")
assert [t.name for t in threading.enumerate()] == ["MainThread"], threading.enumerate()
print("done", flush=True)
"""


def test_kernel_works_in_a_script_without_a_main_guard(plugins: Plugins) -> None:
    plugins.healthy()
    script = Script(PLAIN.format(folder=str(plugins.folder)), plugins.folder.parent)
    status, out, errors = script.end()
    assert (status, out.split(), errors) == (0, ["begun", "done"], "")


@BOTH
def test_two_kernels_with_plugins_of_the_same_names(plugins: Plugins, level: str) -> None:
    other = Plugins(plugins.folder.parent / "other")
    plugins.healthy()
    other.healthy()
    with plugins.kernel(level) as one, other.kernel(level) as two:
        one.emit("attack.one")
        two.emit("attack.two")
        one.set_data("healthy.x", 1)
        eventually(lambda: one.call("healthy.topics") == ["attack.one"])
        eventually(lambda: two.call("healthy.topics") == ["attack.two"])
        assert two.get_data("healthy.x") is None
        one.kill("healthy")
        assert two.call("healthy.answer") == 42
        assert two.info("healthy").state == "active"
        one.close()
        assert two.call("healthy.answer") == 42


@BOTH
def test_use_after_close_raises_kernel_closed(plugins: Plugins, level: str) -> None:
    plugins.healthy()
    with plugins.kernel(level) as kernel:
        pass
    for use in (
        kernel.list, lambda: kernel.emit("x"), lambda: kernel.call("healthy.answer"), lambda: kernel.on("x", print),
        lambda: kernel.set_data("a", 1), lambda: kernel.get_data("a"), lambda: kernel.ask("x"), kernel.dead_letters,
        lambda: kernel.load("x"), lambda: kernel.stop("healthy"), lambda: asyncio.run(kernel.acall("healthy.answer")),
    ):  # fmt: skip
        with pytest.raises(KernelClosed):
            use()
    kernel.close()


@BOTH
def test_exception_in_the_with_block_closes_the_kernel(plugins: Plugins, level: str) -> None:
    plugins.healthy()
    others, everybody = descendants(os.getpid()), set[int]()
    with pytest.raises(ZeroDivisionError), plugins.kernel(level) as kernel:  # noqa: PT012 - the block is the point
        everybody |= descendants(os.getpid()).keys() - others.keys()
        1 / 0  # noqa: B018
    assert [pid for pid in everybody if not gone(pid)] == []
    with pytest.raises(KernelClosed):
        kernel.list()


@BOTH
def test_use_during_close_ends_in_a_result_or_an_error(plugins: Plugins, level: str) -> None:
    """From other threads: an answer or KernelClosed or the plugin's end, never a wait without end."""
    plugins.healthy()
    kernel = plugins.kernel(level)
    kernel.open()
    strange: list[str] = []
    ended = threading.Event()

    def use() -> None:
        while not ended.is_set():
            for work in (
                lambda: kernel.set_data("a.b", 1), lambda: kernel.emit("attack.x"), kernel.list,
                lambda: kernel.ask("attack.x", timeout=1), lambda: kernel.call("healthy.answer", timeout=5),
            ):  # fmt: skip
                try:
                    work()
                except Exception as error:
                    if type(error).__name__ not in ("KernelClosed", "PluginNotActive", "PluginDied"):
                        strange.append(repr(error))

    threads = [threading.Thread(target=use, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    kernel.close()
    ended.set()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert strange == []


INTERRUPTED = """
import os, signal, sys, threading, time
from microkernel import Kernel
def interrupt():
    time.sleep({after})
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    with Kernel({folder!r}) as kernel:
        print(*[info.pid for info in kernel.list()], flush=True)
        {work}
except KeyboardInterrupt:
    print("interrupted", [t.name for t in threading.enumerate() if "interrupt" not in t.name], flush=True)
    input()
"""


@pytest.mark.parametrize("work", ["time.sleep(100)", "kernel.call('hang.hang', timeout=100)", "while True: pass"])
def test_interrupt_in_the_with_block_closes_the_kernel(plugins: Plugins, work: str) -> None:
    plugins.healthy()
    plugins.add("hang", """
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): pass
            def stop(self): pass
            @expose
            def hang(self): time.sleep(1000)
    """, limits={"drain": 0.1, "stop": 0.2, "kill_grace": 0.2})  # fmt: skip
    script = Script(INTERRUPTED.format(folder=str(plugins.folder), after=2.0, work=work), plugins.folder.parent)
    pids = [int(pid) for pid in script.line().split()]
    assert script.line() == "interrupted ['MainThread']"
    assert not descendants(script.pid)
    assert all(map(gone, pids))
    script.tell()
    assert script.end()[0] == 0


def test_interrupt_during_open_closes_the_kernel(plugins: Plugins) -> None:
    plugins.healthy()
    plugins.add("slow", """
        class Plugin(IPlugin):
            def __init__(self, api): pass
            def start(self): time.sleep(3)
            def stop(self): pass
    """, limits={"drain": 0.1, "stop": 0.2, "kill_grace": 0.2})  # fmt: skip
    script = Script(INTERRUPTED.format(folder=str(plugins.folder), after=1.5, work="pass"), plugins.folder.parent)
    assert script.line() == "interrupted ['MainThread']"
    assert not descendants(script.pid)
    script.tell()
    assert script.end()[0] == 0


def test_signals_reach_the_embedder(plugins: Plugins) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        plugins.healthy()
        with plugins.kernel() as kernel:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert kernel.call("healthy.answer") == 42
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_kernel_is_defined_in_app() -> None:
    assert Kernel.__module__ == "microkernel.app"


@pytest.mark.parametrize("name", ["/abs/x", "../../esc", "a/b", ".hidden", "a\0b", "x" * 201])
def test_invalid_kernel_name_is_refused(plugins: Plugins, name: str) -> None:
    """Below it is what its plugins keep."""
    with pytest.raises(ConfigError, match="this cannot be a kernel's name"):
        plugins.kernel(name=name)


@pytest.mark.parametrize(("folder", "name"), [(".plugins", "plugins"), ("...", "kernel"), ("a\nb", "kernel")])
def test_kernel_name_is_derived_from_the_folder(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir()
    assert Kernel(tmp_path / folder).name == name


def test_only_the_embedder_learns_why_a_plugin_failed(plugins: Plugins) -> None:
    """A plugin is not: what ails another is nothing of its."""
    plugins.raw("broken", "def :")
    plugins.add("asking", """
        class Plugin(IPlugin):
            def __init__(self, api): self.api = api
            def start(self): pass
            def stop(self): pass
            @expose
            def ask(self): self.api.call("broken.total")
    """)  # fmt: skip
    with plugins.kernel() as kernel:
        with pytest.raises(
            PluginNotActive, match=r"MK0213 broken is failed: broken.total cannot be called \(MK0103 .*broken.py:1"
        ):
            kernel.call("broken.total")
        with pytest.raises(KernelError) as told:
            kernel.call("asking.ask")
        assert "broken is failed" in str(told.value)
        assert "MK0103" not in str(told.value)
