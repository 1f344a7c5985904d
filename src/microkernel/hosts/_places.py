"""Where a confined worker may look, beside the path of its interpreter: what Python and its libraries need, and
nothing that is anybody's."""

from __future__ import annotations

OF_SYSTEM = (
    # shared libraries
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
    # time zones, certificates of authorities, how many processors there are
    "/etc/localtime", "/usr/share/zoneinfo",
    "/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
    "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible",
    "/dev/urandom", "/dev/random",
)  # fmt: skip
GIVEN = ("/dev/null",)
"""May also be written."""
