"""Arguments that do not fit a type hint are refused with the type of the value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from microkernel.errors import InvalidArguments
from microkernel.sdk.binding.signature import CallBinder, EventBinder
from microkernel.sdk.buffer import Buffer, attachment_of
from microkernel.wire import codec
from microkernel.wire.messages import Envelope

BUFFER = Buffer.__from_bytes__(b"abc")


def takes(data: bytes, parts: list[bytes] | None = None) -> None: ...


def call(**data: Any) -> str:
    args, kwargs, attached = codec.encode_arguments((), data, attachment_of)
    with pytest.raises(InvalidArguments) as refused:
        CallBinder(takes).bind(args, kwargs, [BUFFER] * len(attached))
    return str(refused.value.fields["reason"])


def deliver(**data: Any) -> str:
    encoded, attached = codec.encode_with(data, attachment_of)
    envelope = codec.encode(Envelope(id=1, topic="a.b", source="c", time=0.0, data=codec.Raw(encoded)))
    with pytest.raises(InvalidArguments) as refused:
        EventBinder(takes).bind(envelope, 1, [BUFFER] * len(attached))
    return str(refused.value.fields["reason"])


def test_a_buffer_for_a_bytes_hint_is_named_in_the_error() -> None:
    said = "Expected `bytes`, got a Buffer; annotate it `Buffer`"
    assert call(data=BUFFER) == f"data: {said}"
    assert deliver(data=BUFFER) == f"{said} - at `data`"
    assert deliver(data=b"", parts=[BUFFER]) == f"{said} - at `parts[0]`"


def test_other_values_are_not_named_buffer_in_the_error() -> None:
    now = datetime.now(UTC)
    assert deliver(data=now, parts=[BUFFER]) == "Expected `bytes`, got `datetime` - at `data`"
    assert "Buffer" not in deliver(data=now)
    assert "Buffer" not in call(data=now, parts=[])
