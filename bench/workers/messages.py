"""Messages of floors: the least that a call, its answer and an event need."""

from __future__ import annotations

import msgspec


class Call(msgspec.Struct, array_like=True):
    id: int
    method: str
    data: bytes


class Answer(msgspec.Struct, array_like=True):
    id: int
    data: bytes


class Tick(msgspec.Struct, array_like=True):
    number: int


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Call).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
decode_tick = msgspec.msgpack.Decoder(Tick).decode
decode_ticks = msgspec.msgpack.Decoder(list[Tick]).decode
DATAGRAM = 65_536
