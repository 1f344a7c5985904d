"""The kernel's end of the control socket, driven by its reactor."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType

from microkernel.control.paths import address, answers, credentials, dial, locked, secure, socket_path
from microkernel.control.remote_runner import RemoteClientRunner
from microkernel.errors import ConfigError, KernelError, ProtocolError
from microkernel.kernel.kernel import Core
from microkernel.kernel.manifest import Permissions
from microkernel.kernel.ports import Exit
from microkernel.kernel.registry.instance import Instance
from microkernel.wire import messages
from microkernel.wire.session import Session, refusal

# Permissions of every client. Only the user who runs the kernel can open the socket, and may do anything to it.
GRANT = Permissions(kernel=("observe", "control"))
HELLO_TIMEOUT = 5.0
MAX_CLIENTS = 64
_READ = 256 * 1024
_BACKLOG = 16
# Seconds without accepting clients after descriptors have run out.
_ACCEPT_PAUSE = 1.0

# Messages that a client may send. Life-cycle messages are excluded, because the kernel does not run a client's life
# cycle.
ALLOWED_MESSAGES = frozenset({
    messages.Emit, messages.Ask, messages.Call, messages.Cancel, messages.Response, messages.Done, messages.Rejected,
    messages.Subscribe, messages.Unsubscribe, messages.Expose, messages.Data, messages.Log, messages.Ping,
    messages.Pong, messages.SelfExit,
})  # fmt: skip


class ControlServer:
    """Accepts remote clients of ``core``. ``open`` and ``close`` may block; or use it in a ``with`` block.

    An embedded kernel has a control socket while this is open: ``with ControlServer(kernel.core): ...``.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self.path = socket_path(core.name)
        self._listener: socket.socket | None = None
        self._clients: set[RemoteClient] = set()
        self._numbers = count(1)

    def __enter__(self) -> ControlServer:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Listen on the socket.

        Raises KernelError: MK0702 if another kernel listens there, MK0704 if the folder belongs to another user.
        """
        try:
            secure(self.path.parent)
            with locked(self.path.parent):
                self._remove_stale_socket()
                self._listener = self._listen()
        except OSError as error:
            raise ConfigError("MK0705", path=str(self.path), reason=(error.strerror or str(error)).lower()) from None
        self.core.reactor.run(partial(self.core.reactor.watch, self._listener.fileno(), self._accept))

    def close(self) -> None:
        """Disconnect all clients and remove the socket."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        self.core.reactor.run(partial(self._close, listener))

    def _close(self, listener: socket.socket) -> None:
        self.core.reactor.unwatch(listener.fileno())
        with suppress(OSError, KernelError), locked(self.path.parent):
            self.path.unlink()
        listener.close()
        for client in list(self._clients):
            client.close("the kernel has stopped")

    def _remove_stale_socket(self) -> None:
        try:
            owner = self.path.lstat().st_uid
        except FileNotFoundError:
            return
        if owner != os.getuid():
            raise KernelError("MK0704", path=str(self.path), uid=owner)
        if answers(self.path):
            raise KernelError("MK0702", path=str(self.path), pid=_pid_at(self.path))
        self.path.unlink()
        self.core.journal.announce("MK0703", "notice", "", path=str(self.path))

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            os.fchmod(listener.fileno(), 0o600)  # before it has a name, so that it is never accessible to others
            with address(self.path) as short:
                listener.bind(short)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ConfigError("MK0705", path=str(self.path), reason=(error.strerror or str(error)).lower()) from None
        return listener

    # On the reactor's thread

    def _accept(self) -> None:
        listener = self._listener
        if listener is None:
            return
        try:
            for _ in range(_BACKLOG):
                self._receive(listener.accept()[0])
        except BlockingIOError:
            return
        except OSError:  # out of descriptors: without a pause this thread would spin
            self.core.reactor.unwatch(listener.fileno())
            self.core.reactor.later(_ACCEPT_PAUSE, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._listener is not None:
            self.core.reactor.watch(self._listener.fileno(), self._accept)

    def _receive(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        pid, uid = credentials(connection)
        reason = ""
        if uid not in (os.getuid(), 0):
            reason = f"it belongs to user {os.getuid()}, and you are user {uid}"
        elif len(self._clients) >= MAX_CLIENTS:
            reason = f"there are {MAX_CLIENTS} connections already"
        if reason:
            reject(connection, ProtocolError("MK0709", reason=reason))
            return
        self._clients.add(RemoteClient(self, connection, pid))

    def name(self) -> str:
        """Return a name for the next client. No plugin's name starts with an underscore."""
        return f"_visitor{next(self._numbers)}"

    def forget(self, client: RemoteClient) -> None:
        self._clients.discard(client)


class RemoteClient:
    """One connection: not trusted until its Hello, then an instance. On the reactor's thread."""

    def __init__(self, server: ControlServer, connection: socket.socket, pid: int) -> None:
        self._server = server
        self._core = server.core
        self._connection = connection
        self._pid = pid
        self._session = Session("kernel", self._core.name)
        self._instance: Instance | None = None
        self._closed = False
        self._core.reactor.watch(connection.fileno(), self._readable)
        self._forget_hello = self._core.reactor.later(HELLO_TIMEOUT, self._no_hello)

    def _readable(self) -> None:
        try:
            data = self._connection.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close("it has left")
            return
        try:
            received = self._session.receive(data)
            if self._instance is None and self._session.peer is not None:
                self._instance = self._admit()
            for message in received:
                self._dispatch(message)
        except ProtocolError as error:
            self._refuse(error)

    def _admit(self) -> Instance:
        self._forget_hello()
        with suppress(OSError):  # it has left already; its messages count nevertheless
            self._connection.send(self._session.hello())  # the first bytes into an empty socket fit
        return self._core.remote_clients.attach(self._server.name(), GRANT, self._make_runner)

    def _make_runner(self, instance: Instance) -> RemoteClientRunner:
        return RemoteClientRunner(self._connection, self._pid, instance, self._core.reactor, self.close)

    def _dispatch(self, message: messages.Message) -> None:
        if type(message) not in ALLOWED_MESSAGES:
            raise ProtocolError("MK0215", reason=f"a {type(message).__name__} message is not allowed from a client")
        if isinstance(message, messages.Subscribe):
            message.handler = _drop_oldest(message.handler)
        if self._instance is not None:
            self._instance.received(message)

    def _no_hello(self) -> None:
        if self._instance is None:
            self._refuse(ProtocolError("MK0216", theirs="none", ours=messages.PROTOCOL, reason="it did not say hello"))

    def _refuse(self, error: ProtocolError) -> None:
        if not self._closed:
            with suppress(OSError):
                self._connection.send(refusal(error))
            self.close(str(error))

    def close(self, reason: str) -> None:
        """Close the connection. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._forget_hello()
        self._core.reactor.unwatch(self._connection.fileno())
        if self._instance is not None:
            self._leave(self._instance, reason)
        disconnect(self._connection)
        self._server.forget(self)

    def _leave(self, instance: Instance, reason: str) -> None:
        if isinstance(instance.runner, RemoteClientRunner):
            instance.runner.closed()
        self._core.remote_clients.detach(instance)
        instance.ended(Exit(reason, code=0))


def reject(connection: socket.socket, error: ProtocolError) -> None:
    """Send the reason and close the connection."""
    with suppress(OSError):
        connection.send(refusal(error))
    disconnect(connection)


def disconnect(connection: socket.socket) -> None:
    """Close the connection so that the last message is delivered.

    Unread data of the other end is discarded first, because it would cause a reset that loses the message.
    """
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
        while connection.recv(_READ):
            pass
    connection.close()


def _drop_oldest(handler: messages.Handler) -> messages.Handler:
    """Return the handler with the policy ``drop_oldest``: a terminal that does not read never blocks a plugin."""
    return messages.Handler(handler.number, handler.pattern, handler.name, handler.once, "drop_oldest", handler.board)


def _pid_at(path: Path) -> int:
    try:
        with dial(path, 1.0) as connection:
            return credentials(connection)[0]
    except KernelError:
        return 0
