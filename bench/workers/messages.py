"""What the floors of calls send: the least that names a method, carries one argument, and finds its answer."""

from __future__ import annotations

import msgspec


class Call(msgspec.Struct, array_like=True):
    id: int
    method: str
    data: bytes


class Answer(msgspec.Struct, array_like=True):
    id: int
    data: bytes


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Call).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
DATAGRAM = 65_536
