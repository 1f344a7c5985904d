"""Mask the secrets in a plugin's configuration."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

from microkernel.sdk.binding.record_fields import hints_of
from microkernel.sdk.plugin import Secret
from microkernel.wire.secrets import HIDDEN


class MaskedStr(str):
    """A str that masks itself in ``repr``, so that printing a whole configuration does not reveal it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{HIDDEN}'"


def mask(config: Any, values: frozenset[str]) -> Any:
    """Return the configuration with every secret as a MaskedStr: texts among ``values``, and fields marked with
    ``Secret``."""
    if isinstance(config, str):
        return MaskedStr(config) if config in values else config
    if isinstance(config, dict):
        return {key: mask(each, values) for key, each in config.items()}
    if isinstance(config, list | tuple | set | frozenset):
        return type(config)(mask(each, values) for each in config)
    for name, hint in hints_of(type(config)).items():
        with suppress(AttributeError, TypeError):  # a class may refuse assignments; such fields are skipped
            before = getattr(config, name)
            after = _marked(before) if _is_secret(hint) else mask(before, values)
            if after is not before:
                object.__setattr__(config, name, after)
    return config


def secret_values(config: Any) -> Iterator[str]:
    """Yield the secrets in a configuration that ``mask`` returned."""
    if isinstance(config, MaskedStr):
        yield str(config)
    elif isinstance(config, dict):
        for each in config.values():
            yield from secret_values(each)
    elif isinstance(config, list | tuple | set | frozenset):
        for each in config:
            yield from secret_values(each)
    else:
        for name in hints_of(type(config)):
            yield from secret_values(getattr(config, name, None))


def _is_secret(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return any(mark is Secret or isinstance(mark, Secret) for mark in hint.__metadata__)
    return any(_is_secret(part) for part in typing.get_args(hint))


def _marked(value: Any) -> Any:
    """Return the value with every text in it as a MaskedStr."""
    if isinstance(value, str):
        return MaskedStr(value)
    if isinstance(value, dict):
        return {key: _marked(each) for key, each in value.items()}
    return type(value)(_marked(each) for each in value) if isinstance(value, list | tuple | set) else value
