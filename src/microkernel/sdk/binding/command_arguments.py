"""Convert a text that a person typed to the value that a type hint requests."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from microkernel.errors import InvalidArguments
from microkernel.sdk.binding.record_fields import bare, fields_of, options_of
from microkernel.wire import codec
from microkernel.wire.command_text import CommandText

__all__ = ["CommandText", "fit_to_hint"]

_ANYTHING = (Any, object)
_LISTS = (list, tuple, set, frozenset)
_TRUTHS = {"True": True, "False": False}


class _Number(str):
    """A number as it was written, before it is known whether it is to be a str, an int or another type."""

    __slots__ = ()

    @property
    def value(self) -> Any:
        try:
            return float(self) if self.lstrip("-").lower().strip("0123456789") else int(self)
        except ValueError:  # more digits than Python converts
            return str(self)


def fit_to_hint(value: Any, hint: Any) -> Any:
    """Return a CommandText as the type ``hint``; any other value unchanged.

    A str hint keeps the text as it was typed; a Decimal keeps its digits. If nothing fits, return the value without a
    hint, so that the error describes that.
    """
    if not isinstance(value, CommandText):
        return value
    for candidate in _candidates(value, hint):
        if _fits(candidate, hint):
            return candidate
    return value.value


def _candidates(text: CommandText, hint: Any) -> Iterator[Any]:
    try:
        written = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
    except (ValueError, RecursionError):
        written = _TRUTHS.get(text, str(text))
    yield _shaped(written, hint)
    yield str(text)
    yield text.encode("utf-8", "surrogateescape")


def _fits(value: Any, hint: Any) -> bool:
    try:
        codec.convert(value, hint)
    except InvalidArguments:
        return False
    return True


def _shaped(written: Any, hint: Any) -> Any:
    """Return a JSON value with its numbers as numbers or as texts, as the hint requests."""
    options = [option for option in options_of(hint) if option is not type(None)]
    if isinstance(written, _Number):
        return _number(written, hint, options)
    if isinstance(written, list):
        return [_shaped(each, inner) for each, inner in zip(written, _item_hints(options, len(written)), strict=True)]
    if isinstance(written, dict):
        return _mapping(written, options)
    return _datetime(written) if isinstance(written, str) and datetime in options else written


def _datetime(written: str) -> datetime | str:
    """Parse a datetime, because a decoded value already contains datetimes and a str is not converted to one."""
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return written


def _number(written: _Number, hint: Any, options: Sequence[Any]) -> Any:
    """Return a number as the hint requests. A Decimal is made of the text, because a float has other digits."""
    if any(option in _ANYTHING or isinstance(option, typing.TypeVar) for option in options):
        return written.value
    number, text = written.value, str(written)
    order = (text, number) if Decimal in options else (number, text)
    return next((each for each in order if _fits(each, hint)), number)


def _item_hints(options: Sequence[Any], count: int) -> Sequence[Any]:
    """Return the type hint for each of ``count`` items of a list; Any where there is none."""
    found = next((option for option in options if (typing.get_origin(option) or option) in _LISTS), Any)
    members = typing.get_args(found)
    if typing.get_origin(found) is tuple and len(members) == count and ... not in members:
        return members
    return [members[0] if members else Any] * count


def _mapping(written: dict[str, Any], options: Sequence[Any]) -> dict[Any, Any]:
    for option in options:
        if (fields := fields_of(option)) is not None:
            return {key: _shaped(each, fields.get(key, Any)) for key, each in written.items()}
    kinds = next((typing.get_args(bare(option)) for option in options if typing.get_origin(option) is dict), ())
    of_keys, of_values = kinds if len(kinds) == 2 else (Any, Any)
    return {_key(key, of_keys): _shaped(each, of_values) for key, each in written.items()}


def _key(key: str, hint: Any) -> Any:
    """Convert a key, because JSON keys are always texts."""
    if hint in _ANYTHING or _fits(key, hint):
        return key
    return _shaped(_Number(key), hint)
