"""A subscriber of a NATS server that echoes messages: ``nats_echo URL``."""

from __future__ import annotations

import asyncio
import sys

import nats
from nats.aio.msg import Msg

from bench.workers import ready


async def main() -> None:
    client = await nats.connect(sys.argv[1])

    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    await client.subscribe("bench.echo", cb=echo)
    await client.flush()
    ready()
    await asyncio.Event().wait()


asyncio.run(main())
