"""How many handlers, watchers and methods a plugin may register, and that none costs more for the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import PayloadTooLarge
from microkernel.kernel.manifest import Limits, Manifest
from microkernel.kernel.messaging.quota import Quota
from microkernel.kernel.registry.suggestions import did_you_mean
from microkernel.kernel.routing.registration import charge, kind_of
from microkernel.wire.messages import Handler, Method
from tests.security.attacks.support import Plugins


class Plugin:
    """As much of an Instance as is charged."""

    name = "p"

    def __init__(self, **limits: int) -> None:
        self.manifest = Manifest("p", limits=Limits(**limits))
        self.registered = Quota(kind_of)

    def register(self, *registrations: Handler | Method) -> None:
        for each in registrations:
            charge(self, each)  # type: ignore[arg-type]


def watcher(number: int) -> Handler:
    return Handler(number, "p.key", f"f{number}", board=True)


@pytest.mark.parametrize(
    ("make", "most"),
    [(lambda n: Handler(n, f"t{n}", "f"), 8), (watcher, 2), (lambda n: Method(f"m{n}"), 5)],
    ids=["handlers", "watchers", "methods"],
)
def test_registrations_of_each_kind_are_limited_in_number(make: Callable[[int], Any], most: int) -> None:
    plugin = Plugin(handlers=8, methods=5)
    plugin.register(*map(make, range(most)))
    with pytest.raises(PayloadTooLarge, match="MK0630"):
        plugin.register(make(most))
    plugin.register(make(0))  # in place of what it had
    assert len(plugin.registered) == most


@pytest.mark.parametrize("text", ["name", "signature", "doc", "returns"])
def test_every_text_of_a_method_is_charged(text: str) -> None:
    plugin = Plugin(kernel_memory=100_000)
    with pytest.raises(PayloadTooLarge, match="MK0621"):
        plugin.register(Method(**{"name": "m", text: "x" * 100_000}))


@pytest.mark.parametrize("text", ["pattern", "name", "overflow"])
def test_every_text_of_a_handler_is_charged(text: str) -> None:
    plugin = Plugin(kernel_memory=100_000)
    with pytest.raises(PayloadTooLarge, match="MK0621"):
        plugin.register(Handler(**{"number": 1, "pattern": "t", "name": "f", text: "x" * 100_000}))


def test_removed_registrations_do_not_count() -> None:
    plugin = Plugin(handlers=4)
    plugin.register(watcher(1))
    plugin.registered.release((True, "p.key", "f1"))
    plugin.registered.release((True, "p.key", "f1"))
    plugin.register(watcher(2))
    assert plugin.registered.counts == {"watchers": 1}


GRANTS = {"doer": "declared", "other": "declared"}
DOER = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    def nothing(self, **_): pass
    @expose
    def fill(self, count: int) -> None:
        self.held = [self.api.on(f"t.n{number}", self.nothing) for number in range(count)]
    @expose
    def empty(self) -> None:
        for each in self.held: self.api.off(each)
"""


def test_handler_numbers_are_removed_with_their_handlers(plugins: Plugins) -> None:
    """Also after a reload, which gives them new numbers."""
    plugins.add("doer", DOER)
    with plugins.kernel("thread") as kernel:
        record = kernel.core.registry.get("doer")
        for _ in range(2):
            kernel.call("doer.fill", 100)
            assert len(record.numbers) == len(record.subscriptions) == 100
            kernel.call("doer.empty")
            assert not record.numbers
            assert not record.subscriptions
            kernel.call("doer.fill", 10)
            kernel.reload("doer")


def test_confined_plugin_has_low_limits_that_the_operator_may_raise(plugins: Plugins) -> None:
    plugins.add("doer", DOER, limits={"handlers": 100_000}, permissions={"on": ["t.*"]})
    config = {"plugin": {"other": {"limits": {"handlers": 2000}}}}
    grants = {name: {"on": ["t.*"]} for name in ("doer", "other")}  # "declared" would have the higher limit in it
    with plugins.kernel("sandbox", config=config, grants=grants) as kernel:
        assert limit_of(kernel, "doer") == 256
        kernel.load(plugins.add("other", DOER, permissions={"on": ["t.*"]}))
        assert limit_of(kernel, "other") == 2000
        with pytest.raises(Exception, match="MK0630"):
            kernel.call("doer.fill", 300)
        kernel.call("other.fill", 300)


def limit_of(kernel: Kernel, name: str) -> int:
    return kernel.core.registry.get(name).manifest.limits.handlers


def test_misspelt_name_is_compared_with_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def close_matches(_word: str, candidates: list[str], n: int) -> list[str]:
        compared.append(sum(map(len, candidates)))
        return candidates[:n]

    monkeypatch.setattr("difflib.get_close_matches", close_matches)
    names = [f"method_{number}" for number in range(16_000)]
    assert did_you_mean("x" * 100_000, names) == ""
    assert did_you_mean("methud_15", ["y" * 100_000]) == ""
    assert "method" in did_you_mean("methud_15", names)
    assert max(compared) <= 8 * 32


def test_misspelt_name_is_recognised_among_many() -> None:
    names = ["greet", *(f"zzz{number}" for number in range(100))]
    assert did_you_mean("gret", names) == "; did you mean 'greet'?"
