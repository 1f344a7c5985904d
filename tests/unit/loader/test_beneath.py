"""Which files below a folder are opened, and which are not."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from microkernel.errors import ManifestError, PluginLoadError
from microkernel.kernel.manifest import Level
from microkernel.loader import beneath
from microkernel.loader.auditor import audit
from microkernel.loader.beneath import Beneath, LinkLeaves, NotRegular, open_regular
from microkernel.loader.discovery import find
from microkernel.loader.manifests import read_manifest
from microkernel.loader.snapshot import snapshot
from tests.harness.leftovers import descriptors, opened_since

SECRET = '{"key": "AKIA-SECRET"}'
CODE = "from microkernel import IPlugin\nclass Plugin(IPlugin):\n    def start(self): pass\n    def stop(self): pass\n"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "x.json"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "plugins" / "p"
    (path / "sub").mkdir(parents=True)
    (path / "__init__.py").write_text(CODE)
    (path / "sub" / "inner.py").write_text("X = 1\n")
    return path


def content(folder: Path, name: str) -> bytes:
    with Beneath(str(folder)) as tree, tree.open(name) as file:
        return file.read()


def ways_out(folder: Path, secret: Path) -> dict[str, str]:
    """Create links that lead out, named by their kind."""
    (folder / "deep" / "er").mkdir(parents=True)
    links = {
        "absolute": ("a.py", str(secret)),
        "relative": ("b.py", "../../home/x.json"),
        "through a folder": ("out", "../../home"),
        "further down": ("deep/er/c.py", "../../../../home/x.json"),
        "through another link": ("d.py", "b.py"),
        "out and in again": ("e.py", "../p/../../home/x.json"),
        "this process": ("f.py", f"/proc/self/root{secret}"),
        "of this process": ("g.py", "/proc/self/cwd"),
        "above the root": ("h.py", "../" * 60 + str(secret)[1:]),
        "a neighbour whose name begins alike": ("i.py", f"{folder}-other/x.json"),
    }
    for name, target in links.values():
        (folder / name).symlink_to(target)
    return {way: name for way, (name, _) in links.items()}


def test_no_link_leads_out(folder: Path, secret: Path) -> None:
    for way, name in ways_out(folder, secret).items():
        file = f"{name}/x.json" if way == "through a folder" else name
        with pytest.raises(LinkLeaves):
            content(folder, file)
        with Beneath(str(folder)) as tree:
            assert tree.leads_out(file), way


@pytest.mark.parametrize(
    "target", ["sub/inner.py", "./sub/../sub//inner.py", "sub/up/sub/inner.py", "{folder}/sub/inner.py"]
)
def test_a_link_within_is_followed(folder: Path, target: str) -> None:
    (folder / "sub" / "up").symlink_to("..")
    (folder / "link.py").symlink_to(target.format(folder=folder))
    assert content(folder, "link.py") == b"X = 1\n"


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(folder)
    (folder / "link.py").symlink_to(f"{tmp_path}/alias/sub/inner.py")
    (folder / "real.py").symlink_to(f"{folder}/sub/inner.py")
    assert content(tmp_path / "alias", "sub/inner.py") == b"X = 1\n"
    assert content(tmp_path / "alias", "link.py") == content(tmp_path / "alias", "real.py") == b"X = 1\n"


def test_links_without_end_and_to_nothing_are_errors_of_the_system(folder: Path) -> None:
    (folder / "circle").symlink_to("circle")
    (folder / "nowhere").symlink_to("gone")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        content(folder, "circle")
    with pytest.raises(FileNotFoundError):
        content(folder, "nowhere")


def test_pipes_sockets_devices_and_folders_are_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for opened in (lambda: content(folder, "pipe"), lambda: content(folder, "sub")):
        with pytest.raises(NotRegular):
            opened()
    for path in (folder / "pipe", Path("/dev/zero")):
        with pytest.raises(NotRegular):
            open_regular(str(path))


def test_a_file_that_becomes_a_pipe_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between check and open, so the open itself must not block."""
    path, real = folder / "sub" / "inner.py", os.open

    def swapped(name: str, flags: int, *args: int, **more: int) -> int:
        if name in ("inner.py", str(path)) and not path.is_fifo():
            path.unlink()
            os.mkfifo(path)
        return real(name, flags, *args, **more)

    monkeypatch.setattr(beneath.os, "open", swapped)
    with pytest.raises(NotRegular):
        content(folder, "sub/inner.py")
    path.unlink()
    path.write_text("")
    with pytest.raises(NotRegular):
        open_regular(str(path))


def test_a_folder_replaced_by_a_link_gives_no_content_from_outside(folder: Path, tmp_path: Path) -> None:
    """The folder is exchanged all the time while it is read; the result is the plugin's content or an error."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "inner.py").write_text(SECRET)
    (folder / "other").symlink_to("../../outside")
    stop, looks = threading.Event(), 0

    def exchange() -> None:
        while not stop.is_set():
            os.rename(folder / "sub", folder / "third")
            os.rename(folder / "other", folder / "sub")
            os.rename(folder / "sub", folder / "other")
            os.rename(folder / "third", folder / "sub")

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        with Beneath(str(folder)) as tree:
            while looks < 2000:
                looks += 1
                try:
                    with tree.open("sub/inner.py") as file:
                        assert file.read() == b"X = 1\n"
                except OSError:
                    continue
    finally:
        stop.set()
        thread.join()


def test_the_way_to_a_file_leaves_no_descriptor_open(folder: Path, secret: Path) -> None:
    (folder / "out.py").symlink_to(secret)
    before = descriptors()
    with Beneath(str(folder)) as tree:
        for name in ("sub/inner.py", "sub/gone.py", "gone/x", "out.py", "sub"):
            try:
                tree.open(name).close()
            except OSError:
                continue
        list(tree.folders())
    assert opened_since(before) == {}


# What a plugin's folder is to the loader


@pytest.mark.parametrize("level", ["sandbox", "wasm"])
def test_a_confined_plugin_with_a_link_that_leaves_is_refused_and_nothing_is_read(
    folder: Path, secret: Path, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = os.open

    def watched(path: str, flags: int, *args: int, **more: int) -> int:
        handle = real(path, flags, *args, **more)
        opened.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        return handle

    ways = ways_out(folder, secret)
    links = {name: os.readlink(folder / name) for way, name in ways.items() if way != "through another link"}
    for name in ways.values():
        (folder / name).unlink()
    monkeypatch.setattr(beneath.os, "open", watched)
    for name, target in links.items():
        (folder / name).symlink_to(target)
        with pytest.raises(PluginLoadError) as caught:
            snapshot(find(str(folder)), (), level=level)
        (folder / name).unlink()
        assert (caught.value.id, caught.value.path.endswith(name)) == ("MK0137", True)
        assert "AKIA" not in str(caught.value)
    assert "__init__.py" in opened  # the manifest was looked for
    assert "x.json" not in opened


@pytest.mark.parametrize("name", ["a.py", "words.txt", ".env", "sub/data.json", "plugin.toml", "linked"])
def test_every_kind_of_file_counts(folder: Path, secret: Path, name: str) -> None:
    secret.write_text('version = "1"\n')
    (folder / name).symlink_to(secret.parent if name == "linked" else secret)
    with pytest.raises(PluginLoadError, match=f"MK0137.*{name}"):
        snapshot(find(str(folder)), (), level="sandbox")


def test_at_process_it_is_followed_and_known(folder: Path, secret: Path) -> None:
    secret.write_text("Y = 2\n")
    (folder / "a.py").symlink_to(secret)
    taken = snapshot(find(str(folder)), (), level="process")
    assert (taken.sources["a.py"], taken.leaving) == (b"Y = 2\n", ("a.py",))


def test_the_entry_of_a_folder_of_plugins_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plugins" / "q").symlink_to(folder)
    (tmp_path / "one.py").write_text(CODE)
    (tmp_path / "plugins" / "one.py").symlink_to(tmp_path / "one.py")
    for name in ("q", "one.py"):
        assert snapshot(find(str(tmp_path / "plugins" / name)), (), level="sandbox").leaving == ()


def test_links_of_environments_do_not_count_and_are_not_followed(folder: Path, secret: Path) -> None:
    for place in (".venv/bin", "venv/bin", "node_modules/x", ".git"):
        (folder / place).mkdir(parents=True)
        (folder / place / "python").symlink_to(secret)
    (folder / "venv" / "pyvenv.cfg").write_text("")
    before = snapshot(find(str(folder)), (), level="sandbox")
    assert before.leaving == ()
    secret.write_text("other")
    assert snapshot(find(str(folder)), (), level="sandbox").digest == before.digest


def test_an_error_over_a_linked_manifest_quotes_nothing(folder: Path, secret: Path) -> None:
    for text in ('description = ["AKIA-SECRET"]', "AKIA-SECRET = 1", "AKIA-SECRET"):
        secret.write_text(text)
        (folder / "plugin.toml").unlink(missing_ok=True)
        (folder / "plugin.toml").symlink_to(secret)
        with pytest.raises(ManifestError, match="MK0157") as caught:
            read_manifest(str(folder))
        assert "AKIA" not in str(caught.value)


def test_the_auditor_reads_nothing_outside(folder: Path, secret: Path) -> None:
    secret.write_text('import os\nos.environ["AKIA_SECRET"]\npassword = "AKIA-SECRET-0123456789"\n')
    (folder / "a.py").symlink_to(secret)
    report = audit(find(str(folder)), [], set(), lambda _pattern, _topic: False)
    assert "AKIA" not in repr(report)
    assert [finding.id for finding in report.findings] == ["MK0804"]


# What takes long to follow


def deep(folder: Path, depth: int) -> None:
    """Create folders by descriptors, because the whole path may be longer than the system accepts."""
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=handle)
        handle, outer = os.open("d", os.O_RDONLY, dir_fd=handle), handle
        os.close(outer)
    os.close(handle)


def too_much(folder: Path, level: Level = "sandbox") -> str:
    with pytest.raises(PluginLoadError, match="MK0140") as caught:
        snapshot(find(str(folder)), (), level=level)
    return str(caught.value.fields["what"])


@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_a_folder_may_be_so_deep_and_no_deeper(folder: Path, level: Level) -> None:
    deep(folder, beneath.MOST_DEPTH)
    assert snapshot(find(str(folder)), (), level=level).sources
    (folder / Path(*"d" * 64) / "d").mkdir()
    assert too_much(folder, level) == "folders inside one another"


def test_a_path_may_be_so_long(folder: Path) -> None:
    (folder / Path(*["n" * 200] * 6)).mkdir(parents=True)
    assert too_much(folder) == "bytes in a path"


@pytest.mark.parametrize(
    ("target", "what"), [("./" * 600, "bytes"), ("sub/../" * 65 + "sub", "parts"), ("/" + "x" * 1100, "bytes")]
)
@pytest.mark.parametrize("place", ["", ".hidden"])
def test_a_link_may_be_so_long(folder: Path, target: str, what: str, place: str) -> None:
    (folder / place).mkdir(exist_ok=True)
    (folder / place / "link").symlink_to(target)
    assert too_much(folder, "process") == f"{what} in the target of a link"


def test_links_that_lead_through_each_other_are_counted_as_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "MOST_STEPS", 5_000)
    (folder / "l0").symlink_to("sub/inner.py")
    for number in range(1, 39):
        (folder / f"l{number}").symlink_to("sub/../" * 30 + f"l{number - 1}")
    assert too_much(folder) == "steps along its paths and links"


def test_files_beside_each_other_take_a_step_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = folder / Path(*"d" * 50)
    far.mkdir(parents=True)
    for number in range(200):
        (far / f"{number}.txt").touch()
    monkeypatch.setattr(beneath, "MOST_STEPS", 1_000)
    assert len(snapshot(find(str(folder)), (), level="sandbox").files) == 202


def test_links_that_leave_are_few(folder: Path, secret: Path) -> None:
    (folder / "many").mkdir()
    for number in range(1_100):
        (folder / "many" / f"l{number}").symlink_to(secret)
    assert too_much(folder, "process") == "steps along its paths and links"


def test_a_deep_folder_behind_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    deep(tmp_path / "outside", 1_200)
    (folder / "out").symlink_to(tmp_path / "outside")
    try:
        assert too_much(folder, "process") == "folders inside one another"
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "outside")], check=True)  # Python 3.11 cannot remove it
