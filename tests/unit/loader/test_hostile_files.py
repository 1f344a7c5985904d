"""Files that cost a parser far more than their size are refused by a scan, and the other plugins are loaded."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import KernelError, ManifestError, PluginLoadError
from microkernel.kernel.requirements import satisfies
from microkernel.loader import FileLoader, archives, discover, snapshot
from microkernel.loader.auditor import audit
from microkernel.loader.beneath import Beneath
from microkernel.loader.byte_scan import scan_source, scan_toml
from microkernel.loader.links import linked_sources
from microkernel.wire.topics import covers
from tests.security.costs.corpus import CODE, MANIFESTS, SOURCES, with_block

SNAPSHOT = sys.modules["microkernel.loader.snapshot"]  # the package has a function of this name


@pytest.mark.parametrize("case", MANIFESTS)
def test_an_expensive_manifest_is_refused_with_its_own_message(tmp_path: Path, case: str) -> None:
    line, id = MANIFESTS[case]
    (tmp_path / "evil.py").write_text(with_block(line))
    (tmp_path / "good.py").write_text(CODE)
    evil, good = discover([str(tmp_path)])
    assert good.error is None
    assert isinstance(evil.error, ManifestError)
    assert evil.error.id == id
    assert len(evil.error.text) < 500


@pytest.mark.parametrize("case", SOURCES)
def test_an_expensive_source_is_refused_with_its_own_message(tmp_path: Path, case: str) -> None:
    text, id = SOURCES[case]
    (tmp_path / "evil.py").write_text(CODE + text)
    assert refused(tmp_path / "evil.py").id == id


@pytest.mark.parametrize("name", ["plugin.toml", "pyproject.toml"])
def test_a_manifest_of_a_folder_is_bounded_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text(CODE)
    (tmp_path / "evil" / name).write_text("#" * 70_000)
    [evil] = discover([str(tmp_path)])
    assert evil.error is not None
    assert evil.error.id == "MK0139"


def refused(path: Path) -> KernelError:
    [found] = [each for each in discover([str(path.parent)]) if each.path == str(path)]
    if found.error is not None:
        return found.error
    with pytest.raises(PluginLoadError) as caught:
        snapshot(found, ())
    return caught.value


def test_ordinary_sources_pass() -> None:
    """The standard library, part of which is written to test parsers."""
    library = Path(os.__file__).parent
    for path in sorted(library.glob("[a-f]*.py")):
        scan_source(path.read_text(encoding="utf-8"), str(path), PluginLoadError)


def test_an_ordinary_manifest_passes() -> None:
    text = """
name = "a" # "not closed, ''' nor this
version = '1.2.0-rc1'
[config.a."b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s"]
text = \"\"\"1111111111111111111111111111 [[[[ \\\"\"\" { a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v \"\"\"\"
hash = "11111111111111111111111111111111111"
1f0a3d1f0a3d1f0a3d1f0a3d1f0a3d1f0a3d = 3.14159265358979
when = 2026-11-30T16:00:00.123456+01:00
"""
    scan_toml(text, "plugin.toml", ManifestError)


@pytest.mark.parametrize("text", ['"\\' * 20_000, '"""' + '"\\' * 20_000, "'" * 39_999, "'''" * 13_333, '"' * 39_999])
def test_quotes_that_are_never_closed_take_one_pass(text: str) -> None:
    scan_toml(text, "plugin.toml", ManifestError)
    scan_source(text, "plugin.py", PluginLoadError)


# Amounts


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "__init__.py").write_text(CODE)
    return folder


def sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def test_a_sparse_data_file_is_not_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    sparse(folder / "data.bin", 20 << 30)
    error = refused(folder)
    assert (error.id, error.fields["what"]) == ("MK0140", "bytes of other files")


def test_data_files_are_bounded_together(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    for number in range(3):
        sparse(folder / f"{number}.bin", 400 << 20)
    assert refused(folder).id == "MK0140"


def test_a_link_to_a_large_file_counts(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    sparse(tmp_path / "large", 20 << 30)
    (folder / "data.bin").symlink_to(tmp_path / "large")
    assert refused(folder).id == "MK0140"


def test_sources_are_bounded_one_by_one_and_together(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    sparse(folder / "one.py", 3 << 20)
    assert refused(folder).id == "MK0139"
    sparse(folder / "one.py", 0)
    for number in range(20):
        sparse(folder / f"part{number}.py", 2 << 20)
    error = refused(folder)
    assert (error.id, error.fields["what"]) == ("MK0140", "bytes of sources")


def test_files_and_folders_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SNAPSHOT, "MOST_FILES", 50)
    folder = folder_of(tmp_path)
    for number in range(60):
        (folder / f"empty{number}").mkdir()
    error = refused(folder)
    assert (error.id, error.fields["what"]) == ("MK0140", "files and folders")


@pytest.mark.slow
def test_links_that_lead_to_each_other_are_counted_together(tmp_path: Path) -> None:
    for stage in range(6):
        (tmp_path / f"stage{stage}").mkdir()
        for way in range(8):
            (tmp_path / f"stage{stage}" / f"way{way}").symlink_to(tmp_path / f"stage{stage + 1}")
    folder = folder_of(tmp_path)
    (folder / "first").symlink_to(tmp_path / "stage0")
    (tmp_path / "stage6").mkdir()
    with Beneath(str(folder), follows=True) as tree, pytest.raises(PluginLoadError) as caught:
        linked_sources(tree, [*tree.folders()])
    assert caught.value.id == "MK0102"


def test_an_archive_is_measured_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("evil/__init__.py", CODE)
        archive.writestr("evil/data.bin", bytes(1 << 20))
    monkeypatch.setattr(SNAPSHOT, "MOST_DATA", 1000)
    monkeypatch.setattr(archives, "files_in", lambda folder: pytest.fail("it was read"))
    place = str(tmp_path / "bomb.zip" / "evil")
    monkeypatch.setattr(SNAPSHOT, "location", lambda path: (path, "__init__.py"))
    with pytest.raises(PluginLoadError) as caught:
        SNAPSHOT.take_snapshot(place)
    assert caught.value.id == "MK0140"


# Whatever a parser raises


def failing(error: BaseException) -> object:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


ERRORS: Sequence[Exception] = (RecursionError("deep"), MemoryError(), OverflowError("inf"), ValueError("digits"))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_over_a_plugin_is_its_own_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (tmp_path / "good.py").write_text(CODE)
    loader = FileLoader()
    [found] = loader.discover([str(tmp_path)])
    with monkeypatch.context() as patched:
        patched.setattr(SNAPSHOT, "facts_of_all", failing(error))
        with pytest.raises(PluginLoadError) as caught:
            loader.snapshot(found, ())
        assert caught.value.id == "MK0146"
        patched.setattr("microkernel.loader.auditor.report.seen_in", failing(error))
        report = audit(found, (), (), covers)
        assert report.error is not None
        assert report.error.id == "MK0146"
        patched.setattr("microkernel.loader.discovery.read_manifest", failing(error))
        [broken] = loader.discover([str(tmp_path)])
        assert broken.error is not None
        assert broken.error.id == "MK0146"


def test_a_version_that_is_too_long_satisfies_nothing() -> None:
    assert not satisfies("1" * 5000, ">=1")
    assert not satisfies("1", f">={'1' * 5000}")


def test_the_kernel_opens_beside_expensive_plugins(tmp_path: Path) -> None:
    for number, (line, _) in enumerate(MANIFESTS.values()):
        (tmp_path / f"m{number}.py").write_text(with_block(line))
    for number, (text, _) in enumerate(SOURCES.values()):
        (tmp_path / f"s{number}.py").write_text(CODE + text)
    methods = "".join(f"\n    def {method}: ..." for method in ("__init__(self, api)", "start(self)", "stop(self)"))
    (tmp_path / "good.py").write_text(CODE.replace("...", methods))
    with Kernel(tmp_path, isolation="thread") as kernel:
        states = {info.name: info.state for info in kernel.list()}
    assert states.pop("good") == "active"
    assert set(states.values()) == {"failed"}
    assert len(states) == len(MANIFESTS) + len(SOURCES)
