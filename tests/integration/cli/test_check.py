"""`mk check`: its output and exit codes."""

from __future__ import annotations

import json
import tomllib

import pytest

from .conftest import GREETER, Home

SHADY = """
from microkernel import IPlugin
class Plugin(IPlugin):
    def start(self):
        __import__("o" + "s").system("ls")
        self.api.emit("order.created")
        self.api.set_data("rates.EUR", 1)
    def stop(self): pass
"""


def test_findings_proposed_permissions_and_the_linter_note_are_printed(home: Home) -> None:
    home.write("shady.py", SHADY)
    lines = home.mk("check", "plugins/shady.py", code=1).stdout.splitlines()
    assert lines[0].startswith("✗ plugins/shady.py:5  MK0811  os by an assembled name")
    assert "! plugins/shady.py:5  MK0818  os.system starts another process" in lines
    start = lines.index("# /// script")
    assert lines[start : start + 5] == [
        "# /// script", "# [tool.microkernel.permissions]", '# emit = ["order.created"]',
        '# "data.write" = ["rates.EUR"]', "# ///",
    ]  # fmt: skip
    assert "linter, not a protection" in lines[-1]


def test_rights_without_a_permissions_table_are_printed_for_every_level(home: Home) -> None:
    home.write("shady.py", SHADY)
    text = home.mk("check", "plugins/shady.py", code=1).stdout
    assert "at thread and process it may do everything except kernel, " in text
    assert "at sandbox and wasm only what needs no permission" in text


def test_in_chinese(home: Home) -> None:
    home.write("shady.py", SHADY)
    lines = home.mk("check", "plugins/shady.py", code=1, LANG="zh_CN.UTF-8").stdout.splitlines()
    assert "! plugins/shady.py:5  MK0818  os.system 会启动别的进程" in lines
    assert "不是防护" in lines[-1]


def test_the_difference(home: Home) -> None:
    block = '# /// script\n# [tool.microkernel.permissions]\n# emit = ["stock.*"]\n# ///\n'
    home.write("shady.py", block + SHADY)
    text = home.mk("check", "plugins", code=1).stdout
    assert '+ emit = ["order.created"]' in text
    assert '- emit = ["stock.*"]' in text
    assert "plugins/shady.py:10  MK0835" in text


def test_a_folder_s_permissions_are_toml(home: Home) -> None:
    folder = home.plugins / "shop"
    folder.mkdir()
    (folder / "plugin.toml").write_text("")
    (folder / "plugin.py").write_text(SHADY)
    lines = home.mk("check", "plugins/shop", code=1).stdout.splitlines()
    start = lines.index("[permissions]")
    table = tomllib.loads("\n".join(lines[start : start + 3]))
    assert table == {"permissions": {"emit": ["order.created"], "data.write": ["rates.EUR"]}}


@pytest.mark.parametrize(
    ("source", "args", "code"),
    [
        (GREETER, [], 0),
        (GREETER + "\nimport atexit", [], 0),
        (GREETER + "\nimport atexit", ["--fail-on", "notice"], 1),
        (GREETER + "\nimport ctypes", [], 0),
        (GREETER + "\nimport ctypes", ["--fail-on", "warn"], 1),
        (GREETER + "\nx = (", [], 1),
        ('# /// script\n# [tool.microkernel]\n# isolation = "cellar"\n# ///\nclass Plugin: ...\n', [], 2),
    ],
    ids=["clean", "notice", "notice-counts", "warn", "warn-counts", "syntax", "manifest"],
)
def test_exit_codes(home: Home, source: str, args: list[str], code: int) -> None:
    home.write("greeter.py", source)
    home.mk("check", *args, code=code)


def test_a_missing_path_is_an_error(home: Home) -> None:
    assert "MK0101" in home.mk("check", "plugins/nobody.py", code=2).stderr
    assert home.mk("check", code=2).stdout.splitlines()[0] == "no plugins"


def test_a_source_that_is_not_text_is_a_finding(home: Home) -> None:
    (home.plugins / "odd.py").write_bytes(b"x = '\xff'")
    done = home.mk("check", code=1)
    assert ("MK0802" in done.stdout, done.stderr) == (True, "")


@pytest.mark.parametrize("source", [b"x = '\xff'", b"class Plugin(:\n"], ids=["no text", "no Python"])
def test_no_permissions_are_proposed_for_unreadable_sources(home: Home, source: bytes) -> None:
    (home.plugins / "binary.py").write_bytes(source)
    home.write("greeter.py", GREETER)
    text = home.mk("check", code=1).stdout
    assert "binary needs these permissions" not in text
    assert "binary declares" not in text
    assert "greeter needs these permissions" in text


def test_for_machines(home: Home) -> None:
    home.write("shady.py", SHADY)
    home.write("greeter.py", GREETER)
    data = json.loads(home.mk("check", "--json", code=1).stdout)
    greeter, shady = data["plugins"]
    assert (greeter["name"], greeter["findings"], greeter["error"]) == ("greeter", [], None)
    assert greeter["permissions"] == {
        "emit": ["order.recorded"], "on": ["order.broken", "order.created"],
    }  # fmt: skip
    first = shady["findings"][0]
    assert (first["file"], first["line"], first["severity"], first["id"]) == ("plugins/shady.py", 5, "error", "MK0811")
    assert shady["missing"] == {"emit": ["order.created"], "data.write": ["rates.EUR"]}
    assert data["counts"]["error"] == 1
    assert "linter" in data["note"]
