"""Servers on this machine for clients in plugins, with TLS and without; and the ways that Python has to be a client."""

from __future__ import annotations

import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"hello {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *_: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that does not trust us hangs up."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port."""
    with _Server(("127.0.0.1", 0), Hello) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        yield from _run(server)


def _run(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def echoing() -> Iterator[int]:
    """The port: what comes is sent back when its end has come, and whoever sends nothing hears nothing."""
    with _Echoes(("127.0.0.1", 0), _Echo) as server:
        yield from _run(server)


class _Echoes(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64  # a dozen connect at once, and this process may be busy: the system resets what is too many

    def handle_error(self, *_: Any) -> None:
        """A client that is killed hangs up."""


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with self.request.makefile("rb") as file:
            self.request.sendall(file.read())


class Authority:
    """A certificate authority that no client trusts by default."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.certificate = folder / "authority.pem"
        made = ("-addext", "keyUsage=critical,keyCertSign", "-keyout", "authority.key", "-out", self.certificate)
        self._openssl("req", "-x509", *_KEY, "-subj", "/CN=authority", *made)

    def context(self, name: str) -> ssl.SSLContext:
        """A server's of this name."""
        (self.folder / "extensions").write_text(
            f"subjectAltName=DNS:{name}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        self._openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", "server.key", "-out", "server.csr")
        by = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "extensions")
        self._openssl("x509", "-req", "-in", "server.csr", *by, "-days", "2", "-out", "server.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return context

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
CLIENTS = {
    "urllib": """
import urllib.request
result = urllib.request.urlopen(f'http://127.0.0.1:{port}/x', timeout=9).read().decode() == 'hello /x'
""",
    "http.client": """
import http.client
c = http.client.HTTPConnection('127.0.0.1', port, timeout=9)
c.request('GET', '/x')
result = c.getresponse().read().decode() == 'hello /x'
""",
    "a plain socket": """
with socket.socket() as s:
    s.settimeout(9)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.connect(('127.0.0.1', port))
    s.sendall(b'GET /x HTTP/1.0\\r\\n\\r\\n')
    nodelay = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    result = s.makefile('rb').read().endswith(b'hello /x') and bool(nodelay) and s.getpeername() == ('127.0.0.1', port)
""",
    "streams of asyncio": """
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(b'GET /x HTTP/1.0\\r\\n\\r\\n')
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data
result = asyncio.run(main()).endswith(b'hello /x')
""",
}
MANY_THREADS = """
import urllib.request
from concurrent.futures import ThreadPoolExecutor
def get(n): return urllib.request.urlopen(f'http://127.0.0.1:{port}/{n}', timeout=9).read().decode()
with ThreadPoolExecutor(8) as pool: result = list(pool.map(get, range(40))) == [f'hello /{n}' for n in range(40)]
"""
