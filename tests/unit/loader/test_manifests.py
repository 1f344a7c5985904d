"""Manifests: their keys, their places, and the errors about wrong ones."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from microkernel.errors import ManifestError
from microkernel.kernel.manifest import Limits, Manifest, Permissions, Supervision
from microkernel.loader.manifests import read_manifest

FULL = """\
# /// script
# requires-python = ">=3.11"
# dependencies = ["httpx>=0.28"]
# [tool.microkernel]
# version = "1.2.0"
# isolation = "sandbox"
# requires = ["billing>=2,<3"]
# wants = ["mail>=1"]
# concurrency = 4
# [tool.microkernel.permissions]
# emit = ["order.*"]
# "data.read" = ["rates.**"]
# kernel = ["observe"]
# net = ["api.example.com:443"]
# [tool.microkernel.limits]
# memory = "256MiB"
# handler = 2
# [tool.microkernel.supervision]
# restart = "transient"
# [tool.microkernel.config]
# currency = "CNY"
# ///
class Plugin: ...
"""


def script(folder: Path, block: str, name: str = "hello.py") -> str:
    lines = "".join(f"# {line}\n" if line else "#\n" for line in dedent(block).strip().split("\n"))
    path = folder / name
    path.write_text(f"# /// script\n{lines}# ///\n", encoding="utf-8")
    return str(path)


def own(folder: Path, text: str) -> str:
    return script(folder, "[tool.microkernel]\n" + dedent(text))


def refused(path: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    return caught.value


def test_a_file_without_a_block_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_text("class Plugin: ...")
    assert read_manifest(str(path)) == Manifest("hello")


def test_a_whole_block_is_read(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text(FULL)
    nothing = ()
    assert read_manifest(str(path)) == Manifest(
        name="orders",
        version="1.2.0",
        isolation="sandbox",
        requires=("billing>=2,<3",),
        wants=("mail>=1",),
        requires_python=">=3.11",
        dependencies=("httpx>=0.28",),
        concurrency=4,
        permissions=Permissions(
            emit=("order.*",),
            on=nothing,
            call=nothing,
            data_read=("rates.**",),
            data_write=nothing,
            kernel=("observe",),
            net=("api.example.com:443",),
        ),
        limits=Limits(memory=256 * 1024**2, handler=2.0),
        supervision=Supervision(restart="transient"),
        config={"currency": "CNY"},
    )


def test_none_of_the_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_text("raise SystemExit('it ran')")
    assert read_manifest(str(path)).name == "hello"


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert read_manifest(str(path)).version == "1.2.0"


def test_plugin_toml_has_the_same_keys_at_its_top(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_text('name = "hello"\nversion = "2.0"\n[limits]\nstart = 1.5\n')
    assert read_manifest(str(tmp_path)) == Manifest("hello", "2.0", limits=Limits(start=1.5))


def test_pyproject_falls_back_to_its_project_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "hello"\nversion = "3.1"\nrequires-python = ">=3.11"\n[tool.microkernel]\nenabled = false\n'
    )
    expected = Manifest("hello", "3.1", requires_python=">=3.11", enabled=False)
    assert read_manifest(str(tmp_path)) == expected


def test_in_pyproject_our_own_table_goes_first(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "mk-hello"\nversion = "3.1"\n[tool.microkernel]\nname = "hello"\n'
    )
    manifest = read_manifest(str(tmp_path))
    assert (manifest.name, manifest.version) == ("hello", "3.1")


def test_a_folder_without_toml_may_have_the_block_in_its_entry(tmp_path: Path) -> None:
    folder = tmp_path / "hello"
    folder.mkdir()
    script(folder, '[tool.microkernel]\nversion = "4"', "__init__.py")
    assert read_manifest(str(folder)) == Manifest("hello", "4")


def test_no_permissions_table_is_not_an_empty_one(tmp_path: Path) -> None:
    without = read_manifest(own(tmp_path, 'version = "1"')).permissions
    empty = read_manifest(own(tmp_path, "permissions = {}")).permissions
    assert without is None
    assert empty == Permissions(emit=(), on=(), call=(), data_read=(), data_write=())


def test_nested_permissions_are_the_dotted_ones(tmp_path: Path) -> None:
    path = own(
        tmp_path, '[tool.microkernel.permissions.data]\nread = ["a"]\n[tool.microkernel.permissions.fs]\nwrite = ["/b"]'
    )
    permissions = read_manifest(path).permissions
    assert permissions is not None
    assert (permissions.data_read, permissions.fs_write) == (("a",), ("/b",))


@pytest.mark.parametrize(
    ("written", "size"),
    [("1024", 1024), ('"256MiB"', 256 << 20), ('"1GB"', 10**9), ('"1.5 kb"', 1500), ('"2TiB"', 2 << 40), ('"7B"', 7)],
)
def test_sizes_become_bytes(tmp_path: Path, written: str, size: int) -> None:
    assert read_manifest(own(tmp_path, f"limits = {{ memory = {written} }}")).limits.memory == size


@pytest.mark.parametrize(
    ("written", "key", "suggestion"),
    [
        ('isolaton = "thread"', "isolaton", "; did you mean 'isolation'?"),
        ("zzz = 1", "zzz", ""),
        ("limits = { memry = 1 }", "limits.memry", "; did you mean 'limits.memory'?"),
        ("limits = { kernel_memry = 1 }", "limits.kernel_memry", "; did you mean 'limits.kernel_memory'?"),
        ("limits = { insist = 1 }", "limits.insist", "; did you mean 'limits.kill_grace'?"),
        ("limits = { shared = 1 }", "limits.shared", "; did you mean 'limits.shared_memory'?"),
        ("permissions = { emits = [] }", "permissions.emits", "; did you mean 'permissions.emit'?"),
        ("permissions = { data = { raed = [] } }", "permissions.data.raed", "; did you mean 'permissions.data.read'?"),
        ("supervision = { restrat = 1 }", "supervision.restrat", "; did you mean 'supervision.restart'?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, written: str, key: str, suggestion: str
) -> None:
    error = refused(own(tmp_path, written))
    assert (error.id, error.key, error.suggestion) == ("MK0109", key, suggestion)


def test_an_unknown_key_of_the_block_itself_is_refused(tmp_path: Path) -> None:
    error = refused(script(tmp_path, "dependancies = []"))
    assert (error.id, error.suggestion) == ("MK0109", "; did you mean 'dependencies'?")


@pytest.mark.parametrize(
    ("written", "key", "got"),
    [
        ("version = 1.2", "version", "the number 1.2"),
        ('version = "banana"', "version", "the text 'banana'"),
        ('enabled = "yes"', "enabled", "the text 'yes'"),
        ('isolation = "vm"', "isolation", "the text 'vm'"),
        ("concurrency = 0", "concurrency", "the number 0"),
        ("concurrency = true", "concurrency", "true"),
        ("limits = 5", "limits", "the number 5"),
        ("limits = { stop = -1 }", "limits.stop", "the number -1"),
        ("limits = { stop = nan }", "limits.stop", "the number nan"),
        ("limits = { stop = inf }", "limits.stop", "the number inf"),
        ('limits = { memory = "lots" }', "limits.memory", "the text 'lots'"),
        ("limits = { memory = -1 }", "limits.memory", "the number -1"),
        (f"limits = {{ mailbox = {'9' * 20} }}", "limits.mailbox", "a number over 64 bits"),
        (f"limits = {{ memory = {'9' * 20} }}", "limits.memory", "a number over 64 bits"),
        (f"limits = {{ memory = '{'9' * 400}GB' }}", "limits.memory", f"the text '{'9' * 39}…'"),
        ("limits = { memory = '9999999999999GB' }", "limits.memory", "the text '9999999999999GB'"),
        (f"supervision = {{ intensity = {'9' * 20} }}", "supervision.intensity", "a number over 64 bits"),
        ('permissions = { emit = "order.*" }', "permissions.emit", "the text 'order.*'"),
        ('permissions = { emit = ["a", 5] }', "permissions.emit[1]", "the number 5"),
        ('permissions = { kernel = ["root"] }', "permissions.kernel[0]", "the text 'root'"),
        ("permissions = { data = [] }", "permissions.data", "a list"),
        ("config = 2020-01-01", "config", "a date or time"),
        ("description = {}", "description", "a table"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_words(tmp_path: Path, written: str, key: str, got: str) -> None:
    error = refused(own(tmp_path, written))
    assert (error.id, error.key, error.got) == ("MK0110", key, got)


def test_the_error_reads_as_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(own(tmp_path, 'limits = { memory = "lots" }'))
    wanted = "hello.py: limits.memory must be a number of bytes, or a size such as \"256MiB\", got the text 'lots'"
    assert error.text == wanted


def test_bad_toml_in_a_block_names_the_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_text('"""Doc."""\n\n# /// script\n# [tool.microkernel]\n# version 1\n# ///\n')
    error = refused(str(path))
    assert error.id == "MK0111"
    assert "line 5" in error.reason


def test_bad_toml_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_text("name = ")
    assert refused(str(tmp_path)).id == "MK0111"


@pytest.mark.parametrize("text", ["# /// script\n# [tool.microkernel]\nx = 1\n", "# /// script\n#[tool]\n# ///\n"])
def test_a_block_without_an_end_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hello.py"
    path.write_text(text)
    assert refused(str(path)).id == "MK0111"


def test_two_blocks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_text("# /// script\n# dependencies = []\n# ///\n\n" * 2)
    assert "more than one" in refused(str(path)).reason


@pytest.mark.parametrize(
    "written",
    [
        'requires = ["billing>>2"]',
        'wants = ["billing>>2"]',
        'requires = ["billing[x]"]',
        'requires = ["billing @ https://example.com/x.whl"]',
        'dependencies = ["not a requirement"]',
        'requires-python = "three"',
    ],
)
def test_invalid_requirements_are_refused(tmp_path: Path, written: str) -> None:
    assert refused(own(tmp_path, written)).id == "MK0124"


@pytest.mark.parametrize(
    ("name", "like"),
    [("My-Plugin", '"my-plugin"'), ("2fast", '"fast"'), ("a b", '"a-b"'), ("名", '"my-plugin"')],
)
def test_a_name_out_of_form_is_refused_with_one_that_fits(tmp_path: Path, name: str, like: str) -> None:
    path = tmp_path / f"{name}.py"
    path.touch()
    error = refused(str(path))
    assert (error.id, error.name) == ("MK0108", name)
    assert like in error.reason


@pytest.mark.parametrize("name", ["kernel", "microkernel", "json", "sys"])
def test_a_name_that_is_taken_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.py"
    path.touch()
    error = refused(str(path))
    assert error.id == "MK0108"
    assert f'name = "my-{name}"' in error.reason


def test_the_manifest_may_name_a_file_that_could_have_no_name(tmp_path: Path) -> None:
    assert read_manifest(script(tmp_path, '[tool.microkernel]\nname = "logs"', "logging.py")).name == "logs"


def test_a_name_with_a_hyphen_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "my-plugin.py"
    path.touch()
    assert read_manifest(str(path)).name == "my-plugin"


def test_text_that_is_not_utf8_is_refused_with_the_offset(tmp_path: Path) -> None:
    path = tmp_path / "hello.py"
    path.write_bytes(b"\xef\xbb\xbf# caf\xe9\n")
    error = refused(str(path))
    assert (error.id, error.offset) == ("MK0104", 8)


@pytest.mark.parametrize("address", [
    "api.example.com:443", "*.example.com:443", "example.com:*", "[::1]:80", "10.20.0.0/16:5432", "[fd00:20::/32]:*",
])  # fmt: skip
def test_valid_network_grants(tmp_path: Path, address: str) -> None:
    manifest = read_manifest(own(tmp_path, f'permissions = {{net = ["{address}"]}}'))
    assert manifest.permissions is not None
    assert manifest.permissions.net == (address,)


@pytest.mark.parametrize("address", [
    "example.com", "example.com:", ":443", "example.com:http", "example.com:1234567", "10.20.0.1/16:5432",
    "10.20.0.0/40:1", "example.com/24:80",
])  # fmt: skip
def test_invalid_network_grants_are_refused(tmp_path: Path, address: str) -> None:
    assert refused(own(tmp_path, f'permissions = {{net = ["{address}"]}}')).id == "MK0110"
