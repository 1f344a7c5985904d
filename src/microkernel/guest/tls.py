"""What a guest has as ``ssl``: enough for ``https`` in ``http.client`` and ``urllib.request``.

The worker speaks TLS, the guest sees plain bytes. The certificate is verified, always: for the host that was asked for,
against the authorities that this machine trusts, or those of ``SSL_CERT_FILE`` where that is granted. What would change
that, and all else that the real module has, is refused by name.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from microkernel.guest import sockets

CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = range(3)
PROTOCOL_TLS_CLIENT = 16
HAS_SNI, HAS_ALPN = True, False
_HTTP = ["http/1.1"]
"""What a server speaks that is not asked for a protocol."""


class SSLError(OSError): ...


class SSLCertVerificationError(SSLError, ValueError): ...


CertificateError = SSLCertVerificationError


def stand_in() -> None:
    """After asyncio was imported, whose own TLS needs the real one, and before ``http.client`` is."""
    sockets.ERRORS.update(SSLError=SSLError, SSLCertVerificationError=SSLCertVerificationError)
    sys.modules["ssl"] = sys.modules[__name__]


class SSLContext:
    """All are the same."""

    post_handshake_auth = None

    def __init__(self, protocol: int = PROTOCOL_TLS_CLIENT) -> None:
        if protocol != PROTOCOL_TLS_CLIENT:
            _refuse("a server's TLS, and old versions")

    @property
    def check_hostname(self) -> bool:
        return True

    @check_hostname.setter
    def check_hostname(self, value: bool) -> None:
        if not value:
            _refuse("TLS without verification")

    @property
    def verify_mode(self) -> int:
        return CERT_REQUIRED

    @verify_mode.setter
    def verify_mode(self, value: int) -> None:
        if value != CERT_REQUIRED:
            _refuse("TLS without verification")

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        if [*protocols] != _HTTP:
            _refuse("TLS with a choice of protocols")

    def wrap_socket(
        self,
        sock: Any,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | None = None,
        session: object = None,
    ) -> Any:
        """The same socket; from here on it is secured."""
        if server_side or session or not (server_hostname and do_handshake_on_connect and suppress_ragged_eofs):
            _refuse("TLS other than a client's, with the name of the server")
        sock.secure(server_hostname)
        return sock

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_lacks(f"SSLContext.{name}"))


def create_default_context(
    purpose: object = None, *, cafile: object = None, capath: object = None, cadata: object = None
) -> SSLContext:
    if purpose or cafile or capath or cadata:
        _refuse("TLS with authorities of its own (grant SSL_CERT_FILE and its folder)")
    return SSLContext()


_create_default_https_context = create_default_context


def _refuse(what: str) -> NoReturn:
    raise NotImplementedError(f"the level wasm has no {what}")


def _lacks(name: str) -> str:
    return f"at the level wasm, ssl has what https needs and no more: there is no {name}"


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(_lacks(name))
