"""Convert a plugin's configuration to the module's ``class Config``."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from microkernel.errors import InvalidArguments, PluginLoadError
from microkernel.sdk.binding.record_fields import fields_of, options_of
from microkernel.wire import codec
from microkernel.wire.secrets import Secrets

_LISTS = (list, tuple, set, frozenset)


def read_configuration(module: Any, name: str, data: Any, secrets: Secrets) -> Any:
    """Return the configuration as the module's ``class Config``, or as a dict if there is none.

    Raises PluginLoadError MK0121 for a key that is not a field of the class, and for a value that does not fit.
    """
    config, config_class = codec.decode(data), getattr(module, "Config", None)
    if not isinstance(config_class, type):
        return config
    try:
        for path, known in unknown_keys(config, config_class):
            raise InvalidArguments("MK0605", reason=f"unknown key {path!r}{_did_you_mean(path, known)}")
        return codec.convert(config, config_class)
    except InvalidArguments as error:
        raise PluginLoadError("MK0121", name=name, reason=secrets.redact(error.fields["reason"])) from None


def unknown_keys(value: Any, hint: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the keys that no class of ``hint`` has a field for, each with the keys that are known there."""
    options = [option for option in options_of(hint) if option is not type(None)]
    if isinstance(value, Mapping):
        yield from _in_mapping(value, options, path)
    elif isinstance(value, list):
        for inner in _items(options):
            for number, each in enumerate(value):
                yield from unknown_keys(each, inner, f"{path}[{number}]")


def _in_mapping(value: Mapping[str, Any], options: list[Any], path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the unknown keys of a mapping. In a union of classes, the fields of each are known; in a union with a plain
    dict, every key is."""
    records = [fields for option in options if (fields := fields_of(option)) is not None]
    if len(records) < len(options):
        inner = [*typing.get_args(options[0]), Any, Any][1] if len(options) == 1 else Any
        for key, each in value.items():
            yield from unknown_keys(each, inner, _below(path, key))
        return
    known = {name: hint for fields in records for name, hint in fields.items()}
    for key, each in value.items():
        if key not in known:
            yield _below(path, key), [_below(path, name) for name in known]
        elif len(records) == 1:
            yield from unknown_keys(each, known[key], _below(path, key))


def _items(options: list[Any]) -> Iterator[Any]:
    """Yield the type hint of the items, if ``options`` contain exactly one list type."""
    lists = [option for option in options if (typing.get_origin(option) or option) in _LISTS]
    for option in lists if len(lists) == 1 else ():
        members = [each for each in typing.get_args(option) if each is not ...]
        yield from members if len(members) == 1 else ()


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _did_you_mean(path: str, known: list[str]) -> str:
    from difflib import get_close_matches  # needed for a mistake only

    near = get_close_matches(path, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
