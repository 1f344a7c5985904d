"""Libraries for calls into another process, each in its plain form and over its fastest transport."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from bench.placement import Workspace
from bench.rows import Contender, Measure
from bench.sockets import worker
from bench.timing import PAYLOAD, calls, check

_CALLS = 200
# Calls of one measurement of a contender that takes a fraction of a millisecond for each.
_SLOW = 50
T = TypeVar("T")
_spawning = multiprocessing.get_context("spawn")


def _echo_pipe(end: Connection) -> None:
    while True:
        end.send(end.recv())


@contextmanager
def _pipe(stage: Workspace) -> Iterator[Measure]:
    ours, theirs = _spawning.Pipe()
    process = _spawning.Process(target=_echo_pipe, args=(theirs,), daemon=True)
    process.start()

    def echo(data: bytes) -> object:
        ours.send(data)
        return ours.recv()

    echo(b"it has started")
    stage.place_process(process.pid or 0)
    yield calls(echo, stage.count(_CALLS))
    process.terminate()
    process.join()


def _identity(data: bytes) -> bytes:
    return data


@contextmanager
def _pool(stage: Workspace) -> Iterator[Measure]:
    with ProcessPoolExecutor(1, _spawning) as pool:
        pool.submit(_identity, b"it has started").result()
        for pid in pool._processes:
            stage.place_process(pid)
        yield calls(lambda data: pool.submit(_identity, data).result(), stage.count(_SLOW))


@contextmanager
def _pyro(stage: Workspace) -> Iterator[Measure]:
    from Pyro5 import config
    from Pyro5.api import Proxy

    config.SERIALIZER = "msgpack"
    with _socket_path() as path, worker(stage, "pyro_echo", path) as uri, Proxy(uri) as proxy:
        yield calls(proxy.echo, stage.count(_CALLS))


@contextmanager
def _rpyc(stage: Workspace) -> Iterator[Measure]:
    from rpyc.utils.factory import unix_connect

    with (
        _socket_path() as path,
        worker(stage, "rpyc_echo", path),
        closing(_until(lambda: unix_connect(path))) as connection,  # ready before it listens
    ):
        yield calls(connection.root.echo, stage.count(_CALLS))


@contextmanager
def _zmq(stage: Workspace) -> Iterator[Measure]:
    import zmq

    with _socket_path() as path, zmq.Context() as context, context.socket(zmq.REQ) as asking:
        address = f"ipc://{path}"
        asking.linger = 0

        def echo(data: bytes) -> object:
            asking.send(data)
            return asking.recv()

        with worker(stage, "zmq_echo", address):
            asking.connect(address)
            yield calls(echo, stage.count(_CALLS))


@contextmanager
def _grpc(stage: Workspace) -> Iterator[Measure]:
    import grpc

    with (
        _socket_path() as path,
        worker(stage, "grpc_echo", f"unix:{path}"),
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        yield calls(channel.unary_unary("/bench.Echo/echo"), stage.count(_SLOW))


@contextmanager
def _execnet(stage: Workspace) -> Iterator[Measure]:
    import execnet

    group = execnet.Group()
    gateway = group.makegateway("popen")
    stage.place_process(gateway.remote_exec("import os; channel.send(os.getpid())").receive())
    channel = gateway.remote_exec("for data in channel: channel.send(data)")

    def echo(data: bytes) -> object:
        channel.send(data)
        return channel.receive()

    yield calls(echo, stage.count(_CALLS))
    group.terminate(timeout=1.0)


@contextmanager
def _nats(stage: Workspace) -> Iterator[Measure]:
    import nats

    with _nats_server(stage) as url, worker(stage, "nats_echo", url), asyncio.Runner() as runner:
        client = runner.run(nats.connect(url))
        count = stage.count(_SLOW)

        async def ask() -> float:
            began = time.perf_counter()
            for _ in range(count):
                check((await client.request("bench.echo", PAYLOAD)).data, PAYLOAD)
            return (time.perf_counter() - began) / count

        yield lambda: runner.run(ask())
        runner.run(client.close())


@contextmanager
def _nats_server(stage: Workspace) -> Iterator[str]:
    program = shutil.which("nats-server", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise FileNotFoundError("there is no nats-server")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            _until(lambda: socket.create_connection(("127.0.0.1", port)).close())
            stage.place_process(process.pid)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.terminate()


def _until(attempt: Callable[[], T], within: float = 5.0) -> T:
    """Retry until ``attempt`` raises no OSError; raise it after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def _socket_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "s")


PIPE, PYRO, RPYC, ZMQ, EXECNET, POOL, GRPC, NATS = PEERS = (
    Contender("mp.Pipe", _pipe),
    Contender("Pyro5", _pyro, ("Pyro5", "msgpack")),
    Contender("rpyc", _rpyc, ("rpyc",)),
    Contender("zmq", _zmq, ("zmq",)),
    Contender("execnet", _execnet, ("execnet",)),
    Contender("ProcessPoolExecutor", _pool),
    Contender("gRPC", _grpc, ("grpc",)),
    Contender("NATS", _nats, ("nats",)),
)
