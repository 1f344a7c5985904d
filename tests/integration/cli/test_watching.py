"""Reload on save under `mk run`, and `mk reload --all`."""

from __future__ import annotations

import json

from .conftest import GREETER, Home, Start
from .test_console import Open, terminal

__all__ = ["terminal"]  # a fixture

NEW = GREETER.replace("Hello", "Good day")
BROKEN = "class Plugin(:\n"


def test_edit_and_save(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    running = start("--headless")
    running.wait_for("✓ greeter")
    home.write("greeter.py", NEW)
    running.wait_for(r"^✓ greeter  reloaded: generation 2")
    assert home.mk("call", "greeter.greet").stdout == '"Good day, you!"\n'
    home.write("greeter.py", BROKEN)
    running.wait_for(r"^✗ greeter  MK0305  .*plugins/greeter\.py:1.* 1\.2 continues")
    home.write("fresh.py", GREETER)
    running.wait_for(r"^✓ fresh ")
    (home.plugins / "fresh.py").unlink()
    running.wait_for(r"^• fresh +its source is no longer at .*fresh\.py; it keeps running")
    assert running.end() == 0
    assert sum("greeter" in line and "MK0305" in line for line in running.output) == 1
    assert "watcher" not in running.text


def test_edit_and_save_at_the_console(home: Home, terminal: Open) -> None:
    home.write("greeter.py", GREETER)
    screen = terminal("run", "--isolation", "thread")
    screen.see("✓ greeter")
    screen.see("mk>")
    screen.type("")
    home.write("greeter.py", NEW)
    screen.see(r"✓ greeter  reloaded: generation 2")
    home.write("greeter.py", BROKEN)
    screen.see(r"✗ greeter  MK0305")
    screen.type("quit\r")
    screen.see("greeter  stopped")
    assert screen.ended() == 0
    assert "watcher" not in screen.text


def test_saving_in_chinese(home: Home, start: Start) -> None:
    path = home.write("greeter.py", GREETER)
    running = start("--headless", LANG="zh_CN.UTF-8")
    running.wait_for("✓ greeter")
    path.unlink()
    running.wait_for(r"^• greeter  它的源码已不在 .*greeter\.py")


def test_no_watch(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    running = start("--headless", "--no-watch")
    running.wait_for("✓ greeter")
    assert [info["name"] for info in home.json("ps", "--all")] == ["greeter"]
    home.write("greeter.py", NEW)
    home.mk("reload", "greeter")
    assert home.json("info", "greeter")["generation"] == 2
    assert running.end() == 0
    assert "MK0308" not in running.text


def test_without_watchfiles_the_kernel_runs_and_names_the_extra(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    (home.folder / "sitecustomize.py").write_text("import sys; sys.modules['watchfiles'] = None\n", encoding="utf-8")
    without = {"PYTHONPATH": str(home.folder)}
    running = start("--headless", "--isolation", "thread", **without)
    running.wait_for("✓ greeter")
    assert home.mk("call", "greeter.greet").stdout == '"Hello, you!"\n'
    assert running.end() == 0
    told = [line for line in running.output if "watchfiles" in line]
    assert told == ['• saved files are not reloaded: watchfiles is not installed: pip install "microkernel[console]"']
    assert "MK0712" not in running.text
    quiet = start("--headless", "--isolation", "thread", "--no-watch", **without)
    quiet.wait_for("✓ greeter")
    assert quiet.end() == 0
    assert "watchfiles" not in quiet.text


def test_built_in_plugins_are_listed_on_request(home: Home, start: Start) -> None:
    home.write("greeter.py", GREETER)
    start("--headless", "--isolation", "thread").wait_for("✓ greeter")
    assert [info["name"] for info in home.json("ps")] == ["greeter"]
    assert [info["name"] for info in home.json("ps", "--all")] == ["watcher", "greeter"]


def test_reload_all(home: Home, start: Start) -> None:
    home.write("able.py", GREETER.replace("# version", '# requires = ["zebra"]\n# version'))
    for name in ("zebra", "still"):
        home.write(f"{name}.py", GREETER)
    running = start("--headless", "--isolation", "thread", "--no-watch")
    running.wait_for("✓ able")
    running.wait_for("✓ still")
    home.mk("stop", "still")
    lines = home.mk("reload", "--all").stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["zebra", "able"]
    assert lines[-1] == "✓ reloaded: 2"
    home.write("zebra.py", BROKEN)
    done = home.mk("reload", "--all", code=1)
    assert done.stdout.splitlines()[0].startswith("✗ zebra  MK0305")
    assert done.stdout.splitlines()[-1] == "✗ reloaded: 1; not reloaded: zebra"
    summary = json.loads(home.mk("reload", "--all", "--json", code=1).stdout)
    assert summary["reloaded"] == ["able"]
    assert [(each["plugin"], each["id"]) for each in summary["failed"]] == [("zebra", "MK0305")]
    assert home.json("info", "still")["state"] == "stopped"
    assert home.json("info", "able")["generation"] == 4


def test_reload_wants_a_name_or_all(shared: Home) -> None:
    for args in ([], ["greeter", "--all"]):
        assert "reload NAME | --all" in shared.mk("reload", *args, code=2).stderr


def test_reload_all_at_the_console(home: Home, terminal: Open) -> None:
    for name in ("one", "two"):
        home.write(f"{name}.py", GREETER)
    screen = terminal("run", "--isolation", "thread", "--no-watch")
    screen.see("✓ two")
    screen.see("mk>")
    screen.type("reload --all\r")
    screen.see("✓ reloaded: 2")
    screen.type("ps --all\r")
    screen.see(r"console +0\.1\.0 +thread +active")
    screen.type("reload\r")
    screen.see(r"write: reload NAME \| --all")
    screen.type("quit\r")
    assert screen.ended() == 0
