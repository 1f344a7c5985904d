"""Context variables that a handler sets are gone when it returns, at every level and with every executor."""

from __future__ import annotations

import pytest

from tests.security.attacks.support import Plugins, eventually

SOURCE = """
import contextvars, decimal
from microkernel import IPlugin, every, expose, on
VALUE = contextvars.ContextVar("value", default="none")

class Plugin(IPlugin):
    {make_async}
    def start(self):
        VALUE.set("of start")
        self.seen = []
    @on("set")
    def set(self, value: str):
        self.seen.append(VALUE.get())
        VALUE.set(value)
        decimal.getcontext().prec = 3
    @expose
    def set_in_call(self, value: str) -> str:
        before = VALUE.get()
        VALUE.set(value)
        assert VALUE.get() == value
        return before
    @every(0.001)
    def beat(self):
        VALUE.set("of a timer")
    @expose
    def get(self) -> list:
        return [VALUE.get(), decimal.getcontext().prec]
    @expose
    def seen_values(self) -> list:
        return sorted(set(self.seen))
    def stop(self): pass
"""


@pytest.mark.parametrize("kind", ["sync", "async", "pool"])
@pytest.mark.parametrize("level", ["thread", "process", "sandbox"])
def test_context_variables_do_not_leak_from_one_handler_into_the_next(plugins: Plugins, level: str, kind: str) -> None:
    threads = 2 if kind == "pool" else 1
    header = f"# /// script\n# [tool.microkernel]\n# concurrency = {threads}\n# permissions = {{on = ['set']}}\n# ///\n"
    make_async = "async def more(self): pass" if kind == "async" else ""
    plugins.raw("vary", header + SOURCE.format(make_async=make_async))
    inherited = "none" if kind == "pool" else "of start"
    with plugins.kernel(level, grants={"vary": {"on": ["set"]}}) as kernel:
        for number in range(8):
            kernel.emit("set", value=str(number))
            assert kernel.call("vary.set_in_call", str(number)) == inherited
        eventually(lambda: kernel.info("vary").waiting == 0)
        assert kernel.call("vary.get") == [inherited, 28]
        assert kernel.call("vary.seen_values") == [inherited]
