"""A plugin's configuration and its ``class Config``: an unknown key is an error that suggests the nearest field."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest

from microkernel.errors import PluginLoadError
from microkernel.sdk.loading.configuration import read_configuration
from microkernel.wire import codec
from microkernel.wire.secrets import Secrets


@dataclass
class Server:
    host: str = ""
    port: int = 25


class Limits(TypedDict, total=False):
    rate: int


class Tagged(msgspec.Struct, tag_field="kind", tag="tagged", rename="camel"):
    max_size: int = 0


@dataclass
class Config:
    server: Server = field(default_factory=Server)
    mirrors: list[Server] = field(default_factory=list)
    by_name: dict[str, Annotated[Server, "a mark"]] = field(default_factory=dict)
    maybe: Server | None = None
    either: dict[str, int] | int | None = None
    free: dict[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits())
    tagged: Tagged | None = None
    mode: Literal["a", "b"] = "a"


def read(wanted: Any, **values: Any) -> Any:
    return read_configuration(SimpleNamespace(Config=wanted), "mailer", codec.encode(values), Secrets())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sever": {}}, "unknown key 'sever'; did you mean 'server'?"),
        ({"zzz": 1}, "unknown key 'zzz'"),
        ({"server": {"hots": ""}}, "unknown key 'server.hots'; did you mean 'server.host'?"),
        ({"mirrors": [{"port": 1}, {"prot": 1}]}, "unknown key 'mirrors[1].prot'; did you mean 'mirrors[1].port'?"),
        ({"by_name": {"x": {"hosts": ""}}}, "unknown key 'by_name.x.hosts'; did you mean 'by_name.x.host'?"),
        ({"maybe": {"hosts": ""}}, "unknown key 'maybe.hosts'; did you mean 'maybe.host'?"),
        ({"limits": {"rates": 1}}, "unknown key 'limits.rates'; did you mean 'limits.rate'?"),
        ({"tagged": {"max_size": 1}}, "unknown key 'tagged.max_size'; did you mean 'tagged.maxSize'?"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_suggestion(values: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginLoadError) as caught:
        read(Config, **values)
    assert caught.value.id == "MK0121"
    assert caught.value.fields["reason"] == said
    assert caught.value.text == f"[plugin.mailer.config] does not fit class Config: {said}"


def test_a_dict_field_accepts_any_key() -> None:
    values = {"free": {"a": {"b": 1}}, "either": {"x": 1}, "tagged": {"kind": "tagged", "maxSize": 3}}
    config = read(Config, **values)
    assert (config.free, config.either, config.tagged) == ({"a": {"b": 1}}, {"x": 1}, Tagged(3))


@pytest.mark.parametrize("wanted", [msgspec.defstruct("Config", [("host", str, "")]), Server])
def test_every_kind_of_record_refuses_unknown_keys(wanted: Any) -> None:
    with pytest.raises(PluginLoadError, match="unknown key 'hst'; did you mean 'host'"):
        read(wanted, hst="x")
    assert read(wanted, host="x").host == "x"


@pytest.mark.parametrize("module", [SimpleNamespace(), SimpleNamespace(Config=lambda: None)])
def test_without_a_class_config_any_key_is_accepted(module: Any) -> None:
    assert read_configuration(module, "mailer", codec.encode({"what": 1}), Secrets()) == {"what": 1}
