"""A service that is called all the time while it is reloaded, also with broken code: its callers see latency only.

``MK_RELOADS=100`` is the long form; it prints what it measured.
"""

from __future__ import annotations

import os

import pytest

from microkernel.errors import ReloadFailed
from tests.security.attacks.support import Plugins, eventually, state_is

RELOADS = int(os.environ.get("MK_RELOADS", "20"))
BOTH = pytest.mark.parametrize("level", ["thread", "process"])

SERVICE = """
class Plugin(IPlugin):
    def __init__(self, api): self.api, self.count = api, 0
    def start(self): {start}
    def stop(self): pass
    def export_state(self): return self.count
    def import_state(self, state, from_version):
        {imported}
        self.count = state
    @expose
    def add(self) -> int:
        self.count += 1
        return self.count
    @expose
    def seen(self) -> list[str]: return [str(self.count), self.api.version]
"""
CALLER = """
class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api
        self.answered, self.failed, self.longest = 0, [], 0.0
    def start(self): self.api.spawn(self.work)
    def stop(self): pass
    def work(self):
        due = time.monotonic()
        while self.api.is_active:
            due = max(due + 0.003, time.monotonic() - 0.5)
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            try: self.api.call("service.add", timeout=20.0)
            except Exception as error: self.failed.append(repr(error))
            else: self.answered += 1
            self.longest = max(self.longest, time.monotonic() - began)
    @expose
    def result(self) -> list: return [self.answered, self.failed, self.longest]
"""


def service(plugins: Plugins, version: str = "1.0", start: str = "pass", imported: str = "pass") -> None:
    plugins.add("service", SERVICE.format(start=start, imported=imported), version=version, limits={"start": 10})


BROKEN = [
    lambda plugins: plugins.raw("service", "class Plugin(IPlugin:\n"),
    lambda plugins: service(plugins, "9.0", start="raise RuntimeError('no')"),
    lambda plugins: service(plugins, "9.0", imported="raise RuntimeError('no')"),
    lambda plugins: service(plugins, "9.0", start="os._exit(3)"),
]


@BOTH
@pytest.mark.timeout(120)
def test_no_call_fails_over_many_reloads(plugins: Plugins, level: str) -> None:
    service(plugins)
    for number in range(3):
        plugins.add(f"caller{number}", CALLER)
    broken = BROKEN if level == "process" else BROKEN[:3]  # a thread that calls os._exit takes all with it
    paused, refused = [], 0
    with plugins.kernel(level) as kernel:
        for turn in range(RELOADS):
            if turn % 10 == 9:
                broken[turn // 10 % len(broken)](plugins)
                with pytest.raises(ReloadFailed) as failed:
                    kernel.reload("service")
                refused += 1
                paused.append(failed.value.report.paused_ms)
                service(plugins, f"1.{turn}")
            else:
                service(plugins, f"1.{turn}")
                paused.append(kernel.reload("service").paused_ms)
        before = [kernel.call(f"caller{n}.result", timeout=30)[0] for n in range(3)]
        eventually(lambda: all(kernel.call(f"caller{n}.result")[0] > before[n] for n in range(3)), "all go on")
        results = [kernel.call(f"caller{n}.result", timeout=30) for n in range(3)]
        count = int(kernel.call("service.seen")[0])
        assert [failed for _, failed, _ in results] == [[], [], []]
        assert count >= sum(answered for answered, _, _ in results)  # its state outlived every reload
        assert state_is(kernel, "service", "active").state == "active"
        paused.sort()
        longest = max(longest for _, _, longest in results) * 1000
        print(f"\n{level}: {RELOADS} reloads, {refused} refused; {count} calls, 0 failed, longest {longest:.0f} ms")
        print(f"the mailbox was paused for {paused[len(paused) // 2]:.1f} ms (median), {paused[-1]:.1f} ms (longest)")


@BOTH
def test_a_counter_keeps_its_state_over_fifty_reloads_and_a_refusal(plugins: Plugins, level: str) -> None:
    service(plugins)
    with plugins.kernel(level) as kernel:
        for turn in range(50):
            assert kernel.call("service.add", timeout=30) == turn + 1
            service(plugins, f"{1 + turn // 25}.{turn}")
            kernel.reload("service")
        service(plugins, "3.0", imported="raise ValueError(f'not from {from_version}')")
        with pytest.raises(ReloadFailed, match=r"not from 2\.49"):
            kernel.reload("service")
        assert kernel.call("service.seen", timeout=30) == ["50", "2.49"]
        assert kernel.info("service").state == "active"
