"""Whole plugins: all their files, the smallest permissions, and the difference from the declared ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microkernel.cli.check import is_public
from microkernel.loader import discover
from microkernel.loader.auditor import Report, audit, places_of
from microkernel.wire.topics import covers

HEAD = "from microkernel import IPlugin, on\nclass Plugin(IPlugin):\n    def start(self):\n"


def declared(*lines: str) -> str:
    return "".join(f"# {line}\n" for line in ("/// script", "[tool.microkernel.permissions]", *lines, "///"))


def report(path: Path, *places: Path) -> Report:
    found = discover([str(place) for place in places or (path,)])
    (mine,) = [each for each in found if each.path == str(path)]
    return audit(mine, [each.name for each in found], set(places_of(found)), covers, is_public)


def one(folder: Path, body: str, head: str = "") -> Report:
    path = folder / "shop.py"
    path.write_text(head + HEAD + "".join(f"        {line}\n" for line in body.splitlines() or ["pass"]))
    return report(path)


def test_the_smallest_table(tmp_path: Path) -> None:
    body = "for t in ('b', 'a', 'a'): self.api.emit(t)\nself.api.emit(f'order.{x}')\nself.api.emit('order.made')"
    assert one(tmp_path, body).proposed == {"emit": ("a", "b", "order.*")}


def test_own_topics_and_keys_need_no_permission(tmp_path: Path) -> None:
    body = "self.api.emit('shop.open')\nself.api.set_data('shop.x', 1)\nself.api.get_data('shop.x')"
    assert one(tmp_path, body).proposed == {}


@pytest.mark.parametrize(
    ("body", "kernel"),
    [
        ("self.api.call('kernel.list')", ("observe",)),
        ("self.api.on('kernel.state', f)", ("observe",)),
        ("self.api.call('kernel.stop', 'x')\nself.api.call('kernel.list')", ("control",)),
    ],
)
def test_the_kernel_s_own_need_another_permission(tmp_path: Path, body: str, kernel: tuple[str, ...]) -> None:
    assert one(tmp_path, body).proposed == {"kernel": kernel}


def test_missing_and_unused_permissions_are_reported(tmp_path: Path) -> None:
    head = declared('emit = ["order.*", "stock.**"]', 'net = ["a.org:443"]')
    found = one(tmp_path, "self.api.emit('order.made')\nself.api.emit('bill.sent')", head)
    assert [tuple(change) for change in found.changes] == [
        ("+", "emit", "bill.sent"), ("-", "emit", "stock.**"), ("-", "net", "a.org:443"),
    ]  # fmt: skip
    (told,) = found.findings
    assert (told.id, told.fields["value"], told.place.line) == ("MK0835", "bill.sent", 10)


def test_a_manifest_that_fits(tmp_path: Path) -> None:
    head = declared('emit = ["order.*"]', '"fs.read" = ["/usr/share"]', 'env = ["LC_*"]', 'kernel = ["control"]')
    body = "self.api.emit('order.made')\nopen('/usr/share/x')\nimport os; os.getenv('LC_ALL')"
    found = one(tmp_path, body + "\nself.api.call('kernel.list')", head)
    assert found.changes == []
    assert not [each for each in found.findings if each.id == "MK0835"]


def test_a_missing_permissions_table_is_not_a_finding(tmp_path: Path) -> None:
    found = one(tmp_path, "self.api.emit('order.made')")
    assert (found.findings, [change.sign for change in found.changes]) == ([], ["+"])


def test_every_file_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text(HEAD + "        pass\n")
    (folder / "inner" / "more.py").write_text("eval('1')\n")
    (folder / "build-it.py").write_text("import ctypes\n")
    (folder / "fast.so").write_bytes(b"\x7fELF")
    (folder / ".env").write_text("KEY=" + "AKIA" + "IOSFODNN7EXAMPLQ")
    (folder / "bad.py").write_bytes(b"\xff")
    os.mkfifo(folder / "pipe")
    (folder / "lost.py").symlink_to("nowhere")
    found = report(folder)
    told = {(os.path.relpath(each.place.file, folder), each.id) for each in found.findings}
    assert told == {
        ("inner/more.py", "MK0810"), ("build-it.py", "MK0817"), ("fast.so", "MK0805"), (".env", "MK0808"),
        ("bad.py", "MK0802"),
    }  # fmt: skip
    assert found.error is None


def test_environments_are_skipped_with_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    (folder / ".venv" / "a").mkdir(parents=True)
    (folder / "__init__.py").write_text(HEAD + "        pass\n")
    (folder / ".venv" / "pyvenv.cfg").write_text("")
    (folder / ".venv" / "a" / "x.py").write_text("eval('1')\n")
    (told,) = report(folder).findings
    assert told.id == "MK0804"
    assert told.fields["reason"].endswith(".venv is an environment")


def test_more_than_is_looked_at_is_left_out_data_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microkernel.loader.auditor.report.MOST_BYTES", 100)
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").write_text(HEAD + "        eval('1')\n" + "#" * 100)
    (folder / "a.txt").write_text("x")
    assert {each.id for each in report(folder).findings} == {"MK0804", "MK0810"}


def test_an_import_of_a_plugin_beside_it(tmp_path: Path) -> None:
    (tmp_path / "bill.py").write_text(HEAD + "        pass\n")
    path = tmp_path / "shop.py"
    path.write_text("import bill\n" + HEAD + "        bill.total()\n")
    for places in ((path,), (tmp_path,)):
        (told,) = report(path, *places).findings
        assert (told.id, told.fields["instead"]) == ("MK0803", 'self.api.call("bill.total", ...)')


def test_its_own_modules_are_no_plugins(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "plugin.toml").write_text("")
    (folder / "plugin.py").write_text("import bill\n" + HEAD + "        pass\n")
    (folder / "bill.py").write_text("")
    (tmp_path / "bill.py").write_text(HEAD + "        pass\n")
    assert report(folder, tmp_path).findings == []


def test_a_manifest_that_cannot_be_read_is_the_report_s_error(tmp_path: Path) -> None:
    found = one(tmp_path, "eval('1')", "# /// script\n# [tool.microkernel]\n# nme = 1\n# ///\n")
    assert found.error is not None
    assert (found.error.id, [each.id for each in found.findings]) == ("MK0109", ["MK0810"])


def test_nothing_of_it_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    one(tmp_path, f"pass\nopen({str(canary)!r}, 'w')\n__import__('pathlib').Path({str(canary)!r}).touch()")
    assert not canary.exists()


@pytest.mark.parametrize(
    "body",
    [
        "open('data.txt')",
        "open('logs/x', 'w')",
        "import os\nopen(os.path.expanduser('~/x'))",
        "open(self.api.data_dir / 'x', 'w')",
        "import pathlib\n(pathlib.Path(__file__)).read_text()",
        "open('/usr/share/zoneinfo/UTC')",
        "open('/dev/null', 'w')",
        "import os\nos.environ['PATH']",
    ],
)
def test_unneeded_permissions_are_not_proposed(tmp_path: Path, body: str) -> None:
    assert one(tmp_path, body).proposed == {}


def test_a_folder_reads_its_own_files_without_a_grant(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    body = "import pathlib\n(pathlib.Path(__file__).parent / 'words.txt').read_text()"
    (folder / "__init__.py").write_text(HEAD + "".join(f"        {line}\n" for line in body.splitlines()))
    assert report(folder).proposed == {}


@pytest.mark.parametrize("where", [".", ".."])
def test_the_proposal_does_not_depend_on_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in" / where)
    body = "import pathlib\n(pathlib.Path(__file__).parent / 'words.txt').read_text()\nopen('/etc/../srv/x')"
    assert one(tmp_path, body).proposed == {"fs.read": ("/srv/x", str(tmp_path / "words.txt"))}


@pytest.mark.parametrize(
    "body",
    ["open(self.api.data_dir / '..' / 'x')", "open('/srv/a\\0b')", "open('../x')", "import os\nos.environ['A\\0']"],
)
def test_a_path_that_cannot_be_granted_is_unresolved(tmp_path: Path, body: str) -> None:
    found = one(tmp_path, body)
    assert found.proposed == {}
    assert [finding.id for finding in found.findings if finding.id == "MK0834"] == ["MK0834"]


def test_nothing_is_called_unused_while_a_use_is_unresolved(tmp_path: Path) -> None:
    head = declared('"fs.read" = ["/srv/x"]', 'net = ["a.org:443"]', 'env = ["KEY"]')
    found = one(tmp_path, "open(name)", head)
    assert [(change.sign, change.permission) for change in found.changes] == [("-", "net"), ("-", "env")]
    assert one(tmp_path, "pass", head + "x = (\n").changes == []


def test_a_network_covers_its_addresses_and_may_stand_beside_a_name(tmp_path: Path) -> None:
    head = declared('net = ["db.internal:5432", "10.20.0.0/16:5432"]')
    connect = "import socket; socket.create_connection(('{}', 5432))"
    assert one(tmp_path, connect.format("10.20.3.4"), head).changes[0][0] == "-"  # the name
    assert one(tmp_path, connect.format("db.internal"), head).changes == []
    missing = one(tmp_path, connect.format("10.21.3.4"), head).changes
    assert ("+", "net", "10.21.3.4:5432") in [tuple(change) for change in missing]
