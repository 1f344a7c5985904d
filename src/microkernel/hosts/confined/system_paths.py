"""System paths that a confined worker may read, besides its interpreter's: what Python and its libraries need, and
nothing personal. Missing paths are left out."""

from __future__ import annotations

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_TIME_ZONES = ("/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo")
_CERTIFICATES = (
    "/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf", "/etc/crypto-policies/back-ends",
    "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/ca-trust/extracted",
    "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/crypto-policies",
)  # fmt: skip
# Which system this is, which `uname` reveals in part; read by `platform` and `distro`.
_RELEASES = (
    "/etc/os-release", "/etc/lsb-release", "/etc/debian_version", "/etc/redhat-release", "/etc/system-release",
    "/etc/fedora-release", "/etc/centos-release", "/etc/alpine-release", "/etc/arch-release", "/etc/SuSE-release",
)  # fmt: skip
# Names of ports, protocols and content types. Not /etc/hosts and /etc/resolv.conf: these name machines of the
# operator's network, and the kernel resolves names. Never /etc/passwd and /etc/group: these name people.
_REGISTRIES = (
    "/etc/services", "/etc/protocols", "/etc/rpc", "/etc/ethertypes",
    "/etc/mime.types", "/etc/httpd/mime.types", "/etc/httpd/conf/mime.types", "/etc/apache/mime.types",
    "/etc/apache2/mime.types", "/usr/local/etc/httpd/conf/mime.types", "/usr/local/etc/mime.types",
    "/usr/share/mime", "/usr/local/share/mime", "/etc/mailcap", "/usr/share/etc/mailcap", "/usr/local/etc/mailcap",
    "/etc/magic", "/usr/share/misc", "/usr/share/file", "/usr/share/iso-codes",
)  # fmt: skip
_TEXTS_AND_FONTS = (
    "/etc/fonts", "/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/fontconfig", "/var/cache/fontconfig",
    "/usr/share/locale", "/usr/local/share/locale", "/usr/share/i18n", "/etc/locale.alias",
    "/etc/xml", "/usr/share/xml", "/usr/share/sgml",
)  # fmt: skip
# The number of processors and huge pages. worker/confine/proc_files.py lists the readable files of /proc.
_MACHINE = (
    "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible", "/sys/devices/system/cpu/present",
    "/sys/devices/system/cpu/kernel_max", "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
)  # fmt: skip
READABLE = (
    *_LIBRARIES, *_TIME_ZONES, *_CERTIFICATES, *_RELEASES, *_REGISTRIES, *_TEXTS_AND_FONTS, *_MACHINE,
    "/dev/urandom", "/dev/random",
)  # fmt: skip
# May also be written.
WRITABLE = ("/dev/null",)
