"""Bind payloads to the parameters of handlers and methods, checked and converted by their type hints.

Arguments that do not fit never reach the plugin; they raise InvalidArguments with the path.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from microkernel.errors import InvalidArguments, PluginLoadError, valid_text
from microkernel.sdk.binding.command_arguments import CommandText, fit_to_hint
from microkernel.sdk.binding.type_hints import check_hints
from microkernel.sdk.event import Event
from microkernel.wire import codec
from microkernel.wire.messages import EMPTY_LIST, EMPTY_MAP, Envelope

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Parameter = inspect.Parameter

_UNNAMED = (Parameter.VAR_POSITIONAL, Parameter.POSITIONAL_ONLY)
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_EMPTY_LIST, _EMPTY_MAP = bytes(EMPTY_LIST), bytes(EMPTY_MAP)
_UNKNOWN = "got `ext`"
_BUFFER = "got `Buffer`"
_BOARD = ("key", "value", "revision")
_decode_envelope = codec.decoder_for(Envelope)


def name_of(function: Callable[..., Any]) -> str:
    """Return the qualified name, without the ``<locals>`` that Python inserts for nested functions."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return valid_text(str(name).replace("<locals>.", ""))


def read_parameters(function: Callable[..., Any]) -> list[Parameter] | None:
    """Return the parameters with resolved type hints; None if the signature cannot be read.

    Raises PluginLoadError for type hints that cannot be resolved.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    hints = _hints(function)
    return [p.replace(annotation=hints.get(p.name, Any)) for p in signature.parameters.values()]


def returns_of(function: Callable[..., Any]) -> str:
    """Return the return type hint as it is written; empty if there is none."""
    hints = _hints(function)
    return inspect.formatannotation(hints["return"]) if "return" in hints else ""


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target: Any = function
    while (inner := _partial_of(target)) is not None:
        target = inner
    if not hasattr(target, "__annotations__"):
        target = type(target).__call__
    try:
        return typing.get_type_hints(getattr(target, "__wrapped__", target), include_extras=True)
    except Exception as failure:
        raise PluginLoadError("MK0122", what=name_of(function), reason=str(failure)) from None


def _partial_of(function: Any) -> Any:
    """Return the function that a partial, or a bound ``partialmethod``, calls."""
    method = getattr(function, "__partialmethod__", None) or getattr(function, "_partialmethod", None)
    found = function if isinstance(function, functools.partial) else method
    return None if found is None else found.func


def _fields(parameters: list[Parameter]) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.annotation, codec.NODEFAULT if p.default is p.empty else p.default) for p in parameters]


class EventBinder:
    """Binds events to a handler's parameters: by name; ``event`` receives the Event, ``**rest`` the remaining data.

    A handler with ``*args``, with positional-only parameters or without a readable signature receives the Event alone.
    The parameters of a watcher (``board``) with other names receive key, value and revision, in this order.
    """

    def __init__(self, function: Callable[..., Any], *, board: bool = False) -> None:
        parameters = read_parameters(function)
        self._whole = parameters is None or any(p.kind in _UNNAMED for p in parameters)
        parameters = [] if self._whole or parameters is None else parameters
        self._rest = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
        self._keys = _board_keys(self._named) if board else {p.name: p.name for p in self._named}
        typed = [p for p in self._named if p.name != "event"]
        check_hints(name_of(function), typed)
        self._simple = (
            not (self._whole or self._rest)
            and all(p.kind in _POSITIONAL for p in typed)
            and (len(typed) == len(self._named))
        )
        self._fields = fields = [(self._keys[name], hint, default) for name, hint, default in _fields(typed)]
        self._data = codec.record_type("Payload", fields)
        self._record = codec.record_type(
            "Delivered", [*_ENVELOPE_HEAD, ("data", self._data, codec.NODEFAULT)], as_array=True
        )
        self._decode = codec.decoder_for(self._record)

    @property
    def direct(self) -> Callable[[Any], Any] | None:
        """The decoder of an envelope whose ``data`` has exactly the arguments, in their order; None if there is none
        for this handler."""
        return self._decode if self._simple else None

    @cached_property
    def _decode_data(self) -> Callable[[Any], Any]:
        return codec.decoder_for(self._data)

    def bind(self, envelope: Any, delivery: int, attached: Sequence[Any] = ()) -> Arguments:
        """Return the arguments for one delivery with its attachments. Raises InvalidArguments."""
        decode = codec.decoder_for(self._record, attached) if attached else self._decode
        try:
            if self._simple:
                return codec.values_of(decode(envelope).data), {}
            return self._bind_slowly(envelope, delivery, decode, attached)
        except codec.DECODE_FAILURES as failure:
            reason = str(failure).replace("`$[4].", "`").replace("`$[4]", "`payload")
            if _UNKNOWN in reason and (typed := self._typed(envelope, attached)) is not None:
                return self.bind(typed, delivery, attached)
            if attached and _UNKNOWN in reason:
                reason = self._find_error(envelope, delivery, attached) or reason
            raise _invalid(reason) from None

    def _typed(self, envelope: Any, attached: Sequence[Any]) -> bytes | None:
        """Return the envelope with each CommandText as its parameter requests. None if there is none, or if there are
        attachments, which no command line can send."""
        head = _decode_envelope(envelope)
        data = codec.decode_with_texts(head.data, attached)
        if attached or not any(isinstance(each, CommandText) for each in data.values()):
            return None
        hints = {key: hint for key, hint, _ in self._fields}
        data = {key: fit_to_hint(each, hints.get(key, Any)) for key, each in data.items()}
        return codec.encode(Envelope(head.id, head.topic, head.source, head.time, codec.Raw(codec.encode(data))))

    def values(self, data: Any, attached: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the arguments from an event's data alone. None if the handler takes others; ``bind`` then supplies
        them or raises."""
        if not self._simple:
            return None
        decode = codec.decoder_for(self._data, attached) if attached else self._decode_data
        try:
            return codec.values_of(decode(data))
        except codec.DECODE_FAILURES:
            return None

    def _find_error(self, envelope: Any, delivery: int, attached: Sequence[Any]) -> str:
        """Return the error for arguments that do not fit, by decoding the values again: the fast decoder does not know
        the types of attachments."""
        data = read_event(envelope, delivery, attached).data
        for key, hint in [(key, hint) for key, hint, _ in self._fields if key in data]:
            try:
                codec.convert(data[key], hint)
            except InvalidArguments as error:
                reason, _, path = str(error.fields["reason"]).partition(" - at `$")
                return f"{reason} - at `{key}{path.rstrip('`')}`"
        return ""

    def binds_like(self, other: EventBinder) -> bool:
        """Return whether both binders produce the same arguments for any event: only positional ones with equal names,
        hints and defaults."""
        return (
            self._simple
            and other._simple
            and len(self._fields) == len(other._fields)
            and all(
                name == another and hint == like and default is same
                for (name, hint, default), (another, like, same) in zip(self._fields, other._fields, strict=True)
            )
        )

    def _bind_slowly(
        self, envelope: Any, delivery: int, decode: Callable[[Any], Any], attached: Sequence[Any]
    ) -> Arguments:
        event = read_event(envelope, delivery, attached)
        if self._whole:
            return (event,), {}
        record = decode(envelope).data
        taken = {p.name: event if p.name == "event" else getattr(record, self._keys[p.name]) for p in self._named}
        args = tuple(taken[p.name] for p in self._named if p.kind in _POSITIONAL)
        kwargs = {p.name: taken[p.name] for p in self._named if p.kind is p.KEYWORD_ONLY}
        if self._rest:
            known = set(self._keys.values())
            kwargs |= {key: value for key, value in event.data.items() if key not in known}
        return args, kwargs


_ENVELOPE_HEAD = [(name, kind, codec.NODEFAULT) for name, kind in
                  (("id", int), ("topic", str), ("source", str), ("time", float))]  # fmt: skip


def _board_keys(named: list[Parameter]) -> dict[str, str]:
    if all(p.name in (*_BOARD, "event") or p.default is not p.empty for p in named):
        return {p.name: p.name for p in named}
    others = [p.name for p in named if p.name != "event"]
    return dict(zip(others, _BOARD, strict=False)) | {name: name for name in others[len(_BOARD) :]}


def read_event(envelope: Any, delivery: int, attached: Sequence[Any] = ()) -> Event:
    """Return the whole Event of an encoded envelope."""
    head = _decode_envelope(envelope)
    return Event(head.topic, head.source, head.time, head.id, delivery, codec.decode(head.data, attached=attached))


class CallBinder:
    """Binds calls to a method's parameters, as Python does, then checks and converts each by its type hint."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._parameters = read_parameters(function)
        parameters = self._parameters or []
        check_hints(name_of(function), parameters)
        flat = self._parameters is not None and not any(
            p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters
        )
        positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._fast = flat and len(positional) == len(parameters)
        if self._fast:
            fields = _fields(parameters)
            self._record = codec.record_type("Arguments", fields, closed=True)
            self._ordered = codec.record_type("Arguments", fields, as_array=True, closed=True)
            self._in_order = codec.decoder_for(self._ordered)

    @property
    def direct(self) -> Callable[[Any], Any] | None:
        """The decoder of positional arguments, which has them in their order; None if there is none for this
        method."""
        return self._in_order if self._fast else None

    @cached_property
    def _by_name(self) -> Callable[[Any], Any]:
        """The decoder by name, created at first use: few calls need it, and in a guest it takes a fifth of a
        millisecond."""
        return codec.decoder_for(self._record)

    def bind(self, args: Any, kwargs: Any, attached: Sequence[Any] = ()) -> Arguments:
        """Return the arguments for one call with its attachments. Raises InvalidArguments, naming the parameter."""
        if self._fast:
            try:
                if bytes(kwargs) == _EMPTY_MAP:
                    in_order = codec.decoder_for(self._ordered, attached) if attached else self._in_order
                    return codec.values_of(in_order(args)), {}
                if bytes(args) == _EMPTY_LIST:
                    by_name = codec.decoder_for(self._record, attached) if attached else self._by_name
                    return codec.values_of(by_name(kwargs)), {}
            except codec.DECODE_FAILURES:
                pass  # the slow path below finds the reason and names the parameter
        return self._bind_slowly(codec.decode_with_texts(args, attached), codec.decode_with_texts(kwargs, attached))

    def _bind_slowly(self, args: list[Any], kwargs: dict[str, Any]) -> Arguments:
        if self._parameters is None:
            return tuple(fit_to_hint(each, Any) for each in args), {
                key: fit_to_hint(each, Any) for key, each in kwargs.items()
            }
        try:
            bound = inspect.Signature(self._parameters).bind(*args, **kwargs)
        except TypeError as failure:
            raise _invalid(str(failure)) from None
        for parameter in self._parameters:
            if parameter.name in bound.arguments:
                bound.arguments[parameter.name] = _checked(parameter, bound.arguments[parameter.name])
        return bound.args, bound.kwargs

    def signature(self) -> str:
        """Return the signature as `mk info` shows it."""
        return "(...)" if self._parameters is None else str(inspect.Signature(self._parameters))

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the arguments by name; empty if there is none."""
        return codec.schema(self._record) if self._fast else {}


def _checked(parameter: Parameter, value: Any) -> Any:
    hint = parameter.annotation
    if parameter.kind is parameter.VAR_POSITIONAL:
        value = tuple(fit_to_hint(each, hint) for each in value)
        hint = tuple[hint, ...]  # type: ignore[valid-type]
    elif parameter.kind is parameter.VAR_KEYWORD:
        value = {key: fit_to_hint(each, hint) for key, each in value.items()}
        hint = dict[str, hint]  # type: ignore[valid-type]
    else:
        value = fit_to_hint(value, hint)
    try:
        return codec.convert(value, hint)
    except InvalidArguments as error:
        reason, _, path = str(error.fields["reason"]).partition(" - at `$")
        raise _invalid(reason, parameter.name + path.rstrip("`")) from None


def _invalid(reason: str, path: str = "") -> InvalidArguments:
    reason = reason.replace(_BUFFER, "got a Buffer; annotate it `Buffer`")
    return InvalidArguments("MK0605", reason=f"{path}: {reason}" if path else reason, path=path)
