"""What holds of what a manifest asks and the operator decides."""

from __future__ import annotations

import pytest

from microkernel.errors import ConfigError
from microkernel.kernel.admission.effective_config import cap_limits, merge, resolve_secrets, unknown_names
from microkernel.kernel.admission.limit_bounds import KEPT_WHEN_CONFINED
from microkernel.kernel.config import Group, KernelConfig, PluginConfig
from microkernel.kernel.manifest import Level, Limits, Manifest

DEFAULT = Limits()
GREEDY = Manifest("p", limits=Limits(mailbox=10**9, kernel_memory=0))


def limits(manifest: Manifest, config: KernelConfig, level: Level) -> tuple[int, int]:
    held = cap_limits(merge(manifest, config), config, level).limits
    return held.mailbox, held.kernel_memory


def test_manifest_cannot_raise_kernel_memory_at_sandbox() -> None:
    assert limits(GREEDY, KernelConfig(), "sandbox") == (DEFAULT.mailbox, KEPT_WHEN_CONFINED["kernel_memory"])
    assert limits(GREEDY, KernelConfig(), "process") == (10**9, 0)


@pytest.mark.parametrize(
    ("asked", "said", "level", "expected"),
    [(1e9, {}, "sandbox", DEFAULT.drain), (1e9, {}, "wasm", DEFAULT.drain), (1e9, {}, "process", 30.0),
     (1e9, {"drain": 1e9}, "process", 1e9),
     (0.0, {}, "sandbox", 0.0), (1.0, {}, "wasm", 1.0), (1.0, {"drain": 60.0}, "sandbox", 60.0)],
)  # fmt: skip
def test_manifest_cannot_extend_the_drain_at_confined_levels(
    asked: float, said: dict[str, float], level: Level, expected: float
) -> None:
    config = KernelConfig(limits=said)
    manifest = Manifest("p", limits=Limits(drain=asked))
    assert cap_limits(merge(manifest, config), config, level).limits.drain == expected


@pytest.mark.parametrize("name", ["handlers", "methods", "keys", "lines"])
def test_only_the_operator_raises_counts_at_confined_levels(name: str) -> None:
    for asked in (0, 10**9):
        manifest = Manifest("p", limits=Limits(**{name: asked}))
        assert getattr(cap_limits(manifest, KernelConfig(), "wasm").limits, name) == KEPT_WHEN_CONFINED[name] > 0
        assert getattr(cap_limits(manifest, KernelConfig(), "process").limits, name) == asked
    config = KernelConfig(limits={name: 10**6})
    assert getattr(cap_limits(merge(Manifest("p"), config), config, "wasm").limits, name) == 10**6


def test_manifest_may_lower_its_limits() -> None:
    assert limits(Manifest("p", limits=Limits(mailbox=5, kernel_memory=100)), KernelConfig(), "sandbox") == (5, 100)


@pytest.mark.parametrize(
    "config",
    [
        KernelConfig(limits={"kernel_memory": 10**9}),
        KernelConfig(plugin={"p": PluginConfig(limits={"kernel_memory": 10**9})}),
    ],
)
def test_operator_may_raise_kernel_memory(config: KernelConfig) -> None:
    assert limits(GREEDY, config, "sandbox") == (DEFAULT.mailbox, 10**9)


def test_configured_names_that_do_not_exist_are_listed() -> None:
    config = KernelConfig(
        plugin={"writer": PluginConfig(), "writr": PluginConfig()}, group={"g": Group(plugins=("writer", "nobody"))}
    )
    assert [*unknown_names(config, ["writer", "writrr"], {"writer"})] == [
        ("[plugin.writr]", "writr"), ("[group.g]", "nobody"), ("Kernel(grants=...)", "writrr"),
    ]  # fmt: skip


@pytest.mark.parametrize("given", [5, "", ["A"], {}, None])
def test_environment_variable_name_must_be_a_non_empty_string(given: object) -> None:
    with pytest.raises(ConfigError, match=r"MK0110 .*: env must be the name of a variable"):
        resolve_secrets({"x": {"env": given}}, {})
