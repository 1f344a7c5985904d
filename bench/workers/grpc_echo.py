"""A gRPC server with one method of plain bytes, over a Unix socket: ``grpc_echo ADDRESS``."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.workers import ready


def echo(request: bytes, _context: object) -> bytes:
    return request


handlers = {"echo": grpc.unary_unary_rpc_method_handler(echo)}
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", handlers)])
server.add_insecure_port(sys.argv[1])
server.start()
ready()
server.wait_for_termination()
