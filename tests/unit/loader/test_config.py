"""``microkernel.toml``, the operator's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from microkernel.errors import ConfigError
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.kernel.manifest import Permissions
from microkernel.loader.config import read_config


def written(folder: Path, text: str) -> str:
    path = folder / "microkernel.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(path: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return caught.value


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "")) == KernelConfig()


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    text = """\
        name = "shop"
        plugins = ["plugins", "entry-points"]
        isolation = "sandbox"
        min_isolation = "thread"
        fallback = ["process"]
        data_dir = "/var/lib/shop"
        language = "zh"
        log_level = "DEBUG"
        [limits]
        handler = 10
        [plugin.billing]
        enabled = false
        isolation = "wasm"
        concurrency = 2
        permissions = { call = ["rates.*"] }
        limits = { memory = "1KiB" }
        supervision = { intensity = 0 }
        config = { currency = "CNY", deep = { er = [1] } }
        """
    billing = PluginConfig(
        enabled=False,
        isolation="wasm",
        concurrency=2,
        permissions=Permissions(emit=(), on=(), call=("rates.*",), data_read=(), data_write=()),
        limits={"memory": 1024},
        supervision={"intensity": 0},
        config={"currency": "CNY", "deep": {"er": [1]}},
    )
    assert read_config(written(tmp_path, text)) == KernelConfig(
        name="shop",
        plugins=("plugins", "entry-points"),
        isolation="sandbox",
        min_isolation="thread",
        fallback=("process",),
        data_dir="/var/lib/shop",
        language="zh",
        log_level="DEBUG",
        limits={"handler": 10.0},
        plugin={"billing": billing},
    )


def test_unset_values_stay_unset(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, "[plugin.billing]\n"))
    assert config.plugin == {"billing": PluginConfig()}


@pytest.mark.parametrize(
    ("text", "key", "suggestion"),
    [
        ("zzz = 1", "zzz", ""),
        ("min-isolation = 1", "min-isolation", "; did you mean 'min_isolation'?"),
        ("[limits]\nhandlr = 1", "limits.handlr", "; did you mean 'limits.handler'?"),
        ("[plugin.a]\nenable = true", "plugin.a.enable", "; did you mean 'plugin.a.enabled'?"),
        (
            "[plugin.a.permissions]\nnett = []",
            "plugin.a.permissions.nett",
            "; did you mean 'plugin.a.permissions.net'?",
        ),
    ],
)
def test_an_unknown_key_is_refused(tmp_path: Path, text: str, key: str, suggestion: str) -> None:
    error = refused(written(tmp_path, text))
    assert (error.id, error.key, error.suggestion) == ("MK0109", key, suggestion)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('plugins = "plugins"', "plugins"),
        ('isolation = "process "', "isolation"),
        ('fallback = ["thread", "vm"]', "fallback[1]"),
        ('log_level = "LOUD"', "log_level"),
        ('language = "fr"', "language"),
        ("plugin = []", "plugin"),
        ("[plugin]\na = 1", "plugin.a"),
        ("[plugin.a]\nlimits = { start = true }", "plugin.a.limits.start"),
    ],
)
def test_a_value_of_another_kind_is_refused(tmp_path: Path, text: str, key: str) -> None:
    error = refused(written(tmp_path, text))
    assert (error.id, error.key) == ("MK0110", key)


def test_bad_toml_is_refused(tmp_path: Path) -> None:
    assert refused(written(tmp_path, "name = 'shop")).id == "MK0111"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "microkernel.toml")).id == "MK0102"


def test_a_folder_is_not_a_configuration(tmp_path: Path) -> None:
    assert refused(str(tmp_path)).id == "MK0102"
