"""``ssl`` in a guest: the part that ``https`` needs in ``http.client``, ``urllib.request``, requests and httpx.

The worker implements TLS, the guest sees plain bytes. The certificate is always verified: for the requested host,
against the authorities that the machine trusts (or those of ``SSL_CERT_FILE`` if it is granted), or against those that
the plugin loads into its context. Anything that would disable this, and everything else of the real module, raises.
"""

from __future__ import annotations

import re
from enum import IntEnum, IntFlag
from functools import reduce
from operator import or_
from typing import Any, NamedTuple, NoReturn

from microkernel.guest import sockets

OPENSSL_VERSION: str
OPENSSL_VERSION_NUMBER: int
OPENSSL_VERSION_INFO: tuple[int, int, int, int, int]
HAS_SNI, HAS_ALPN, HAS_NPN, HAS_ECDH, HAS_PSK = True, False, False, True, False
HAS_SSLv2, HAS_SSLv3, HAS_TLSv1, HAS_TLSv1_1, HAS_TLSv1_2, HAS_TLSv1_3 = False, False, False, False, True, True
HAS_NEVER_CHECK_COMMON_NAME = True
# The result of a server without protocol negotiation.
_HTTP = ["http/1.1"]
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[\\sA-Za-z0-9+/=]+-----END CERTIFICATE-----\\s*")
_OF_WORKER = ("OPENSSL_VERSION", "OPENSSL_VERSION_NUMBER", "OPENSSL_VERSION_INFO")


class VerifyMode(IntEnum):
    CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = range(3)


class TLSVersion(IntEnum):
    MINIMUM_SUPPORTED = -2
    SSLv3 = 768
    TLSv1 = 769
    TLSv1_1 = 770
    TLSv1_2 = 771
    TLSv1_3 = 772
    MAXIMUM_SUPPORTED = -1


class Options(IntFlag):
    """Options that are always on, or that do not affect a client that verifies."""

    OP_ALL = 0x8000_0050
    OP_NO_SSLv2 = 0
    OP_NO_SSLv3 = 0x0200_0000
    OP_NO_TLSv1 = 0x0400_0000
    OP_NO_TLSv1_1 = 0x1000_0000
    OP_NO_COMPRESSION = 0x0002_0000
    OP_NO_TICKET = 0x0000_4000


_OPTIONS = reduce(or_, map(int, Options.__members__.values()))


class VerifyFlags(IntFlag):
    VERIFY_DEFAULT = 0
    VERIFY_X509_TRUSTED_FIRST = 0x8000
    VERIFY_X509_STRICT = 0x20
    VERIFY_X509_PARTIAL_CHAIN = 0x8_0000


class _ASN1Object(NamedTuple):
    nid: int
    shortname: str
    longname: str
    oid: str


class Purpose:
    SERVER_AUTH = _ASN1Object(129, "serverAuth", "TLS Web Server Authentication", "1.3.6.1.5.5.7.3.1")
    CLIENT_AUTH = _ASN1Object(130, "clientAuth", "TLS Web Client Authentication", "1.3.6.1.5.5.7.3.2")


CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = VerifyMode
PROTOCOL_TLS, PROTOCOL_SSLv23, PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER = 2, 2, 16, 17
globals().update(Options.__members__, **VerifyFlags.__members__)


class SSLError(OSError): ...


class SSLCertVerificationError(SSLError, ValueError): ...


class SSLZeroReturnError(SSLError): ...


class SSLWantReadError(SSLError): ...


class SSLWantWriteError(SSLError): ...


class SSLSyscallError(SSLError): ...


class SSLEOFError(SSLError): ...


CertificateError = SSLCertVerificationError
sockets.ERRORS.update(SSLError=SSLError, SSLCertVerificationError=SSLCertVerificationError)


class SSLSocket:
    """Not used: a wrapped socket stays the same object, and is secured."""


class SSLObject:
    """Not used."""


class _ReadOnly:
    """An attribute that can be read, and refuses to be changed."""

    def __init__(self, value: Any, otherwise: str) -> None:
        self._value, self._otherwise = value, otherwise

    def __get__(self, _context: object, _kind: type) -> Any:
        return self._value

    def __set__(self, _context: object, value: Any) -> None:
        if value != self._value:
            _refuse(self._otherwise)


class SSLContext:
    """The context of a client that verifies. Contexts differ only in the authorities that they trust."""

    check_hostname = _ReadOnly(True, "TLS without verification")
    verify_mode = _ReadOnly(CERT_REQUIRED, "TLS without verification")
    minimum_version = _ReadOnly(TLSVersion.TLSv1_2, "TLS with other versions than 1.2 and 1.3")
    post_handshake_auth = False
    hostname_checks_common_name = _ReadOnly(False, "TLS that looks for the host in a certificate's common name")
    keylog_filename = _ReadOnly(None, "log of the keys of TLS")
    sslsocket_class, sslobject_class = SSLSocket, SSLObject
    protocol = PROTOCOL_TLS_CLIENT

    def __init__(self, protocol: int = PROTOCOL_TLS_CLIENT) -> None:
        if protocol not in (PROTOCOL_TLS_CLIENT, PROTOCOL_TLS):
            _refuse("a server's TLS, and old versions")
        self._options = Options.OP_ALL | Options.OP_NO_SSLv3 | Options.OP_NO_COMPRESSION
        self._flags = VerifyFlags.VERIFY_X509_TRUSTED_FIRST
        self._authorities = ""
        self._is_of_machine = False

    @property
    def options(self) -> Options:
        return self._options

    @options.setter
    def options(self, value: int) -> None:
        if value & ~_OPTIONS:
            _refuse("options of TLS such as these")
        self._options = Options(value)

    @property
    def verify_flags(self) -> VerifyFlags:
        return self._flags

    @verify_flags.setter
    def verify_flags(self, value: int) -> None:
        """Set verification flags in addition to the worker's."""
        self._flags = VerifyFlags(value)

    @property
    def maximum_version(self) -> TLSVersion:
        return TLSVersion.MAXIMUM_SUPPORTED

    @maximum_version.setter
    def maximum_version(self, value: int) -> None:
        if value not in (TLSVersion.MAXIMUM_SUPPORTED, TLSVersion.TLSv1_3):
            _refuse("TLS with other versions than 1.2 and 1.3")

    def load_default_certs(self, purpose: object = Purpose.SERVER_AUTH) -> None:
        if self._authorities or purpose != Purpose.SERVER_AUTH:
            _refuse("TLS with the machine's authorities and others besides")
        self._is_of_machine = True

    set_default_verify_paths = load_default_certs

    def load_verify_locations(self, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        """Trust these authorities in this context; without arguments, those that the machine trusts."""
        if not (cafile or capath or cadata):
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        if capath or isinstance(cadata, (bytes, bytearray, memoryview)):
            _refuse("TLS with authorities that are not in one file, or a text, of certificates (PEM)")
        if self._is_of_machine:
            _refuse("TLS with the machine's authorities and others besides")
        for text in (_text_of(cafile) if cafile else "", cadata or ""):
            found = _CERTIFICATE.findall(text)
            if text and not found:
                raise SSLError(0, "no start line: there is no certificate in it")
            self._authorities += "".join(found)

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
        """Secure the socket and return it."""
        if server_side or session or not (server_hostname and do_handshake_on_connect and suppress_ragged_eofs):
            _refuse("TLS other than a client's, with the name of the server")
        sock.secure(server_hostname, self._authorities, int(self._flags))
        return sock

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_lacks(f"SSLContext.{name}"))


def create_default_context(
    purpose: object = Purpose.SERVER_AUTH, *, cafile: Any = None, capath: Any = None, cadata: Any = None
) -> SSLContext:
    if purpose != Purpose.SERVER_AUTH:
        _refuse("a server's TLS, and old versions")
    context = SSLContext()
    if cafile or capath or cadata:
        context.load_verify_locations(cafile, capath, cadata)
    return context


def _text_of(path: Any) -> str:
    with open(path, encoding="latin-1") as file:  # names of authorities may be in the file too, in any encoding
        return file.read()


_create_default_https_context = create_default_context


def _refuse(what: str) -> NoReturn:
    raise NotImplementedError(f"the level wasm has no {what}")


def _lacks(name: str) -> str:
    return f"at the level wasm, ssl has what https needs and no more: there is no {name}"


def __getattr__(name: str) -> Any:
    """Return ``OPENSSL_VERSION``, which is the worker's and known only when a guest runs."""
    if name in _OF_WORKER:
        number, version = sockets.tls_version()
        info = (number >> 28, number >> 20 & 0xFF, number >> 12 & 0xFF, number >> 4 & 0xFF, number & 0xF)
        return dict(zip(_OF_WORKER, (version, number, info), strict=True))[name]
    raise AttributeError(_lacks(name))
