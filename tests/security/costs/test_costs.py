"""What comes from plugins costs no more than its size says: the corpus, and inputs that are made up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microkernel.errors import InvalidArguments, ManifestError, PluginLoadError, ProtocolError
from microkernel.hosts.confined import network_broker
from microkernel.hosts.confined.addresses import leads_to, parse_grant, permits
from microkernel.hosts.inspector_process import MEMORY, Inspector
from microkernel.inspector.sources import NotFinished, NotParsed
from microkernel.kernel.admission import permissions
from microkernel.kernel.manifest import Manifest, Permissions
from microkernel.loader import find
from microkernel.loader.byte_scan import scan_source, scan_toml
from microkernel.loader.manifests import read_manifest
from microkernel.loader.parsers import facts_of, toml_of
from microkernel.loader.snapshot import take_snapshot
from microkernel.wire import session
from tests.security.costs import corpus
from tests.security.costs.oracle import MIB, assert_cheap

QUICK = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


# Manifests


@pytest.mark.parametrize("case", corpus.MANIFESTS)
def test_a_manifest_of_the_corpus(tmp_path: Path, case: str) -> None:
    line, _ = corpus.MANIFESTS[case]
    path = tmp_path / "evil.py"
    path.write_text(corpus.with_block(line))
    assert_cheap(partial(read_manifest, str(path)), path.stat().st_size, ManifestError)


# Words of TOML, so that what is made of them is often valid, deep and long.
_WORDS = st.sampled_from([
    "a", "a.a", "[", "]", "[[", "]]", "{", "}", "=", " = ", ",", "\n", '"', "'", '"""', "'''", "\\", "#", "1", "0x1",
    "1_1", "1e9", "2026-01-01", "[a]\n", "a = 1\n", "a = {a = ", "a.b.c.d.e.f.g.h = [", ".", '"a".', "true", "inf",
])  # fmt: skip


@QUICK
@given(st.lists(_WORDS, max_size=40), st.integers(1, 400))
def test_a_manifest_that_is_made_up(words: list[str], times: int) -> None:
    text = ("".join(words) * times)[: 64 * 1024]
    assert_cheap(partial(toml_of, text, "plugin.toml"), len(text), ManifestError, times=2000)


@QUICK
@given(st.text(alphabet="\"'\\#[]{}().=,\n\r\t f1", max_size=60), st.integers(1, 5000))
def test_the_scans_take_one_pass(text: str, times: int) -> None:
    text *= times
    assert_cheap(partial(scan_toml, text, "plugin.toml", ManifestError), len(text), ManifestError)
    assert_cheap(partial(scan_source, text, "plugin.py", PluginLoadError), len(text), PluginLoadError)


# Sources


@pytest.mark.parametrize("case", corpus.SOURCES)
def test_a_source_of_the_corpus(case: str) -> None:
    text, _ = corpus.SOURCES[case]
    assert_cheap(partial(facts_of, text.encode(), "p.py"), len(text), PluginLoadError, times=1000)


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    with closing(Inspector()) as inspector:
        yield inspector


@pytest.mark.parametrize("case", corpus.UNSCANNED)
def test_a_source_that_no_scan_refuses_costs_the_kernel_nothing(inspector: Inspector, case: str) -> None:
    """The inspector keeps to its memory, or has ended."""
    text = corpus.UNSCANNED[case]
    inspector._overruns.clear()
    assert_cheap(partial(inspector.ask, "facts", text), len(text), NotFinished, NotParsed)
    if inspector.pid is not None:
        status = Path(f"/proc/{inspector.pid}/status").read_text(encoding="ascii")
        [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmPeak")]
        assert int(peak) * 1024 <= MEMORY


# Snapshots


@pytest.mark.parametrize(("files", "links"), [(2000, 0), (500, 300)])
def test_a_snapshot_of_many_files(tmp_path: Path, files: int, links: int) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "__init__.py").write_text(corpus.CODE)
    for number in range(files):
        (folder / f"data{number}").touch()
    for number in range(links):
        (folder / f"link{number}").symlink_to(folder)
    assert_cheap(partial(take_snapshot, str(folder)), files * 100, PluginLoadError)


def test_a_snapshot_of_a_file_that_is_sparse(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "__init__.py").write_text(corpus.CODE)
    with open(folder / "data.bin", "wb") as file:
        file.truncate(20 << 30)
    assert_cheap(partial(take_snapshot, str(folder)), 0, PluginLoadError)


# Frames


@pytest.mark.parametrize("case", corpus.FRAMES)
def test_a_frame_of_the_corpus(case: str) -> None:
    data = corpus.FRAMES[case]
    assert_cheap(partial(_receive, data), len(data), ProtocolError, times=80)


@QUICK
@given(st.lists(st.sampled_from([
    b"\x90", b"\x91", b"\x9f", b"\x80", b"\x81", b"\x8f", b"\xc0", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xdf\x00\xff\xff\xff", b"\xdb\x00\x00\x00\x02ab", b"\xa1a", b"\xc4\x01a", b"\x01", b"\xd4\x00\x00",
]), max_size=30), st.integers(1, 3000))  # fmt: skip
def test_a_frame_that_is_made_up(parts: list[bytes], times: int) -> None:
    body = b"\x91" + b"".join(parts) * times
    assert_cheap(partial(_receive, corpus.frames.head(len(body)) + body), len(body), ProtocolError, times=80)


def _receive(data: bytes) -> None:
    end = session.Session("kernel", "a")
    end.receive(session.Session("instance", "b").hello())
    end.receive(data)


# Requests for connections


@pytest.mark.parametrize("case", corpus.REQUESTS)
def test_a_request_of_the_corpus(case: str) -> None:
    assert_cheap(partial(_consider, corpus.REQUESTS[case]), 1024, InvalidArguments, ValueError)


@QUICK
@given(st.text(alphabet="ab.:[]%*/0123456789\u212a\u3002", max_size=255), st.integers(1, 65535))
def test_a_request_that_is_made_up(host: str, port: int) -> None:
    allowed = [*map(parse_grant, corpus.GRANTS)]
    assert_cheap(lambda: permits(allowed, host, port) and leads_to(allowed, host, host, port), 1024)


def _consider(data: bytes) -> None:
    idle = SimpleNamespace(watch=lambda *_: None, unwatch=lambda *_: None)
    broker = network_broker.NetworkBroker("p", corpus.GRANTS, idle, lambda error: None)  # type: ignore[arg-type]
    try:
        broker.work = lambda number, act: None  # type: ignore[method-assign]
        broker.handle_request(data)
    finally:
        broker.discard()


# What is asked for


@pytest.mark.parametrize("entries", [1, 256])
def test_what_a_manifest_asks_for(tmp_path: Path, entries: int) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "__init__.py").write_text(corpus.CODE)
    (folder / "plugin.toml").write_text(corpus.asking(entries))
    found = find(str(folder))
    assert found.error is None
    assert_cheap(partial(_review, found.manifest), entries * 64)


def test_more_than_may_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        _read(tmp_path, corpus.asking(257))
    assert caught.value.id == "MK0144"


@QUICK
@given(st.lists(st.text(alphabet="ab*.", min_size=1, max_size=60), max_size=256))
def test_a_wish_that_is_made_up(patterns: list[str]) -> None:
    asked = Permissions(*[tuple(patterns)] * 5)
    assert_cheap(partial(_review, Manifest("evil", permissions=asked)), sum(map(len, patterns)) * 5)


def _read(tmp_path: Path, text: str) -> Any:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "plugin.toml").write_text(text)
    return read_manifest(str(folder))


def _review(manifest: Manifest) -> None:
    """As approvals do, beside what a person approved: it is each that is compared with each."""
    assert manifest.permissions is not None
    wanted = permissions.requested(manifest.name, manifest.permissions)
    approved = permissions.from_requests([(kind, f"x.{what}") for kind, what in wanted[:40]])
    permissions.lines(permissions.missing(wanted, approved))
    permissions.lines(permissions.missing(permissions.requested(manifest.name, approved), manifest.permissions))


def test_what_the_oracle_would_find() -> None:
    """One that finds nothing proves nothing."""
    with pytest.raises(AssertionError, match="bytes for 1"):
        assert_cheap(lambda: bytearray(64 * MIB), 1)
    with pytest.raises(AssertionError, match="s for 1 bytes"):
        assert_cheap(_compute, 1, seconds=0.1)


def _compute() -> None:
    until = time.process_time() + 0.15
    while time.process_time() < until:
        sum(range(1000))
