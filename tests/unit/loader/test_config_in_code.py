"""A configuration in code has the keys, the checks and the messages of ``microkernel.toml``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel, KernelConfig
from microkernel.errors import ConfigError
from microkernel.kernel import config as kernel_config
from microkernel.kernel.config import Group, PluginConfig
from microkernel.kernel.manifest import Permissions
from microkernel.loader.config import read_config

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"isolation": "proces"}, "MK0110", 'isolation must be "thread" or "process"'),
    ({"isolation": "proces"}, "MK0110", "got the text 'proces'; did you mean 'process'?"),
    ({"min_isolation": "sandbx"}, "MK0110", "min_isolation must be"),
    ({"fallback": ["none"]}, "MK0110", "fallback[0] must be"),
    ({"limits": {"memory": "256MB!"}}, "MK0110", "limits.memory must be a number of bytes"),
    ({"limits": {"memroy": 1}}, "MK0109", "unknown key 'limits.memroy'; did you mean 'limits.memory'?"),
    ({"limits": {"handler": -1}}, "MK0110", "limits.handler must be a number of seconds, 0 or more"),
    ({"limits": {"cpu": 1.7e308}}, "MK0110", "limits.cpu must be a number from 0 to 1000000000"),
    ({"limits": {"processors": 1e9}}, "MK0110", "limits.processors must be a number from 0 to 65536"),
    ({"limits": {"cpu": -1}}, "MK0110", "limits.cpu must be a number from 0 to 1000000000"),
    ({"limits": {"cpu": float("nan")}}, "MK0110", "limits.cpu must be a number from 0 to 1000000000"),
    ({"plugin": {"x": {"isolation": "proces"}}}, "MK0110", "plugin.x.isolation must be"),
    ({"plugin": {"x": {"isolatoin": "process"}}}, "MK0109", "did you mean 'plugin.x.isolation'?"),
    ({"plugin": {"x": {"limits": {"memory": True}}}}, "MK0110", "plugin.x.limits.memory"),
    ({"plugin": {"x": {"supervision": {"restart": "ever"}}}}, "MK0110", "plugin.x.supervision.restart"),
    ({"plugin": {"x": {"permissions": {"emt": []}}}}, "MK0109", "mean 'plugin.x.permissions.emit'?"),
    ({"plugin": {"x": {"permissions": {"emit": "order.*"}}}}, "MK0110", "plugin.x.permissions.emit must be a list"),
    ({"plugin": {"x": 3}}, "MK0110", "plugin.x must be a table, got the number 3"),
    ({"group": {"g": {"strategy": "all"}}}, "MK0110", "group.g.strategy"),
    ({"plugins": "plugins"}, "MK0110", "plugins must be a list"),
    ({"log_level": "LOUD"}, "MK0110", "log_level"),
    ({"name": 3}, "MK0110", "name must be a text"),
    ({"plugin": {3: {}}}, "MK0110", "plugin.3"),
]


@pytest.mark.parametrize(("table", "id", "said"), WRONG)
def test_each_form_is_checked_as_the_file_is(table: dict[str, Any], id: str, said: str) -> None:
    for make in (lambda: Kernel(config=table), lambda: KernelConfig(**table), lambda: Kernel(config=_unchecked(table))):
        with pytest.raises(ConfigError) as refused:
            make()
        assert refused.value.id == id
        assert said in refused.value.text


def _unchecked(table: dict[str, Any]) -> kernel_config.KernelConfig:
    return kernel_config.KernelConfig(**table)


@pytest.mark.parametrize(("table", "said"), [({"isolatoin": "process"}, "did you mean 'isolation'?"), ({3: 4}, "3")])
def test_an_unknown_key_of_a_dict_has_a_suggestion(table: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Kernel(config=table)


@pytest.mark.parametrize("other", [3, ["a"], object()])
def test_other_types_than_a_configuration_are_refused(other: Any) -> None:
    with pytest.raises(ConfigError, match=r"Kernel: config must be a KernelConfig, a table, or the path of a file"):
        Kernel(config=other)


WHOLE: dict[str, Any] = {
    "name": "shop",
    "plugins": (Path("plugins"), "entry-points"),
    "isolation": "sandbox",
    "fallback": ("process",),
    "data_dir": Path("data"),
    "limits": {"memory": "256MiB", "handler": 10},
    "plugin": {
        "a": {"limits": {"memory": "1KiB"}, "permissions": {"emit": ("order.*",)}, "config": {"deep": {"er": [1]}}},
        "b": PluginConfig(limits={"memory": "2KiB"}, permissions=Permissions(), determinism={"clock": 5.5}),  # type: ignore[dict-item]
    },
    "group": {"g": Group("one_for_all", ("a", "b")), "h": {"plugins": ("a",)}},
}


def test_every_form_gives_the_same_configuration() -> None:
    made = KernelConfig(**WHOLE)
    assert made.limits == {"memory": 256 << 20, "handler": 10.0}
    assert made.plugins == ("plugins", "entry-points")
    assert made.plugin["a"].permissions == Permissions(("order.*",), (), (), (), ())
    assert made.plugin["a"].limits == {"memory": 1024}
    assert made.plugin["b"] == PluginConfig(
        limits={"memory": 2048}, permissions=Permissions(), determinism={"clock": 5.5}
    )
    assert made.group == {"g": Group("one_for_all", ("a", "b")), "h": Group(plugins=("a",))}
    assert replace(made, data_dir="elsewhere").limits == made.limits
    assert repr(made).startswith("KernelConfig(name='shop'")


def test_the_file_and_the_program_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "microkernel.toml"
    path.write_text('isolation = "proces"\n')
    with pytest.raises(ConfigError) as of_file:
        read_config(str(path))
    with pytest.raises(ConfigError) as of_program:
        Kernel(config={"isolation": "proces"})
    assert of_file.value.text.removeprefix(str(path)) == of_program.value.text.removeprefix("config")
    assert of_file.value.id == of_program.value.id


@pytest.mark.parametrize(
    ("former", "today"),
    [
        ("insist", "kill_grace"),
        ("block", "full_mailbox_timeout"),
        ("kept", "kernel_memory"),
        ("shared", "shared_memory"),
    ],
)
def test_a_former_name_of_a_limit_is_refused_with_the_name_of_today(former: str, today: str) -> None:
    for table in ({"limits": {former: 1}}, {"plugin": {"x": {"limits": {former: 1}}}}):
        with pytest.raises(
            ConfigError, match=rf"limits\.{former}'; did you mean '[a-z.]*limits\.{today}'\?"
        ) as refused:
            Kernel(config=table)
        assert refused.value.id == "MK0109"
    assert KernelConfig(limits={today: 1}).limits == {today: 1}
    with pytest.raises(ConfigError, match=rf"MK0110 .*limits\.{today} must be"):
        KernelConfig(limits={today: "soon"})
