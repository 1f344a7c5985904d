"""``run_plugin``: the plugin under test, the plugins it needs, and a configuration in any form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microkernel import KernelConfig
from microkernel.errors import ConfigError, PluginLoadError
from microkernel.testing import harness, run_plugin

ASKS = harness.plugin(
    """
    @expose
    def total(self) -> int: return self.api.call("rates.rate") * 2
    @expose
    def shown(self) -> Any: return self.api.config
    """
)
RATES = harness.plugin("@expose\ndef rate(self) -> int: return 21")
NAMED = harness.plugin("@expose\ndef rate(self) -> int: return 21", manifest='name = "rates"')


@pytest.mark.parametrize("others", [{"rates": RATES}, [NAMED], NAMED])
def test_run_plugin_loads_the_plugins_it_needs(others: Any) -> None:
    with run_plugin(ASKS, others=others) as kernel:
        assert kernel.call("plugin.total") == 42


def test_a_needed_plugin_may_be_a_path(tmp_path: Path) -> None:
    (tmp_path / "rates.py").write_text(RATES)
    for others in ([tmp_path / "rates.py"], tmp_path / "rates.py", str(tmp_path / "rates.py")):
        with run_plugin(ASKS, others=others) as kernel:
            assert kernel.call("plugin.total") == 42


@pytest.mark.parametrize("level", ["proces", 3, ["thread"]])
def test_an_unknown_level_is_a_configuration_error(level: Any) -> None:
    with pytest.raises(ConfigError, match=r"MK0110 Kernel: isolation must be \"thread\" or"), run_plugin(ASKS, level):
        raise AssertionError("it ran")


@pytest.mark.parametrize("form", [dict, lambda table: KernelConfig(**table)])
def test_the_configuration_reaches_the_plugin(form: Any) -> None:
    with run_plugin(ASKS, config=form({"plugin": {"plugin": {"config": {"server": "x"}}}})) as kernel:
        assert kernel.call("plugin.shown") == {"server": "x"}


def test_the_configuration_may_be_the_path_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "microkernel.toml").write_text("[plugin.plugin.config]\nserver = 'y'\n")
    with run_plugin(ASKS, config=tmp_path / "microkernel.toml") as kernel:
        assert kernel.call("plugin.shown") == {"server": "y"}


def test_a_wrong_configuration_is_raised() -> None:
    with pytest.raises(ConfigError, match="did you mean 'isolation'"), run_plugin(ASKS, config={"isolatoin": 1}):
        pass


def test_an_error_of_a_needed_plugin_is_raised() -> None:
    with pytest.raises(PluginLoadError), run_plugin(ASKS, others={"rates": "x = 1\ny = 2\n"}):
        pass


@pytest.mark.parametrize("level", ["thread", "process"])
def test_a_configuration_that_cannot_be_encoded_fails_that_plugin(level: Any) -> None:
    wrong = {"plugin": {"plugin": {"config": {"server": object()}}}}
    with pytest.raises(Exception, match="server"), run_plugin(ASKS, level, config=wrong):
        pass


def test_an_unknown_overflow_is_refused_at_registration(tmp_path: Path) -> None:
    misspelt = harness.plugin('@on("a.b", overflow="blok")\ndef hear(self) -> None: ...')
    wanted = "overflow must be one of block, drop_oldest, drop_newest, reject"
    with pytest.raises(PluginLoadError, match=wanted), run_plugin(misspelt):
        raise AssertionError("it ran")
    with run_plugin(RATES) as kernel, pytest.raises(ValueError, match="got 'blok'"):
        kernel.on("a.b", print, overflow="blok")
