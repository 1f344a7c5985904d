"""What a guest has, what it lacks, and the bounds on its time and memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import PluginDied
from microkernel.kernel.config import KernelConfig
from tests.harness.waiting import eventually
from tests.integration.wasm.conftest import PLUGIN, Run, do


def test_only_granted_folders_exist(run: Run, tmp_path: Path) -> None:
    readable, writable, secret = (tmp_path / name for name in ("readable", "writable", "secret"))
    for folder in (readable, writable, secret):
        folder.mkdir()
        (folder / "there").write_text("content")
    kernel = run(fs_read=[str(readable)], fs_write=[str(writable)])
    assert do(kernel, f"result = open('{readable}/there').read()") == "content"
    assert do(kernel, f"open('{readable}/new', 'w')")[0] == "PermissionError"
    assert do(kernel, f"open('{writable}/new', 'w').write('from a guest')") is None
    assert (writable / "new").read_text() == "from a guest"
    for path in (f"{secret}/there", f"{readable}/../secret/there", "/etc/passwd", "/", str(tmp_path)):
        assert do(kernel, f"os.stat('{path}')")[0] in ("FileNotFoundError", "PermissionError"), path
    (writable / "out").symlink_to(secret)
    assert do(kernel, f"open('{writable}/out/there')")[0] in ("FileNotFoundError", "PermissionError")


def test_its_own_data_folder_and_temporary_files(run: Run, tmp_path: Path) -> None:
    kernel = run()
    assert do(kernel, "(api.data_dir / 'kept').write_text('x')") is None
    assert (tmp_path / "data" / "p" / "kept").read_text() == "x"
    assert do(kernel, "result = [os.getcwd(), open('kept').read()]") == [str(tmp_path / "data" / "p"), "x"]
    assert do(kernel, "import tempfile\nwith tempfile.NamedTemporaryFile() as f: result = f.write(b'xy')") == 2


def test_its_environment_is_what_was_granted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOWN", "yes")
    monkeypatch.setenv("HIDDEN", "no")
    kernel = run(env=["SHOWN"])
    found = do(kernel, "result = dict(os.environ)")
    assert found.pop("TMPDIR", "")
    data = str(tmp_path / "data" / "p")
    assert found == {"SHOWN": "yes", "HOME": data, "USER": "p", "LOGNAME": "p"}
    who = "import getpass, pathlib\nresult = [getpass.getuser(), str(pathlib.Path.home())]"
    assert do(kernel, who) == ["p", data]


NO_THREADS, NO_MODULE = "there are no threads at the level wasm", "at the level wasm, which has no C extensions"


@pytest.mark.parametrize(("code", "error", "text"), [
    ("import threading\nthreading.Thread(target=print).start()", "RuntimeError", NO_THREADS),
    ("api.spawn(print)", "RuntimeError", NO_THREADS),
    ("import numpy", "ModuleNotFoundError", NO_MODULE),
    ("import _curses", "ModuleNotFoundError", NO_MODULE),
    ("import multiprocessing\nmultiprocessing.Process(target=print).start()", "OSError", "there are no processes"),
    ("import subprocess\nsubprocess.run(['true'])", "OSError", "does not support processes"),
    ("import socket\nsocket.socket().bind(('127.0.0.1', 0))", "PermissionError", "and no other sockets"),
])  # fmt: skip
def test_missing_features_are_explained(code: str, error: str, text: str, run: Run) -> None:
    kind, said = do(run(), code)
    assert kind == error
    assert text in said


def test_concurrency_is_refused(run: Run) -> None:
    info = run("[tool.microkernel]\nconcurrency = 2").info("p")
    assert (info.state, info.error_id) == ("failed", "MK0127")


def test_a_grant_that_a_guest_cannot_use_is_reported(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    run(fs_read=[str(file), str(tmp_path / "nowhere"), str(tmp_path)])
    said = [line.getMessage() for line in caplog.records if "MK0418" in line.getMessage()]
    assert said == [
        f"p  MK0418 {file} was granted but could not be opened: the level wasm opens folders only",
        f"p  MK0418 {tmp_path}/nowhere was granted but could not be opened: it is not there",
    ]


RUNAWAYS = {
    "a loop": "while True: pass",
    "a regular expression": "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
    "a loop in C": "sum(range(10 ** 12))",
    "sleep": "time.sleep(1000)",
}


@pytest.mark.parametrize("code", RUNAWAYS.values(), ids=RUNAWAYS)
def test_a_guest_over_its_time_is_killed_and_replaced(code: str, run: Run) -> None:
    kernel = run(limits={"handler": 0.5, "kill_grace": 0.1})
    with pytest.raises(PluginDied):
        do(kernel, code)
    assert do(kernel, "result = api.generation") == 2


def test_a_trap_ends_the_guest_and_the_engine_reports_it(run: Run) -> None:
    kernel = run()
    with pytest.raises(PluginDied, match="died: wasm trap: wasm `unreachable` instruction executed"):
        do(kernel, "os.abort()")
    assert do(kernel, "result = api.generation") == 2
    with pytest.raises(PluginDied, match="died: wasm trap: call stack exhausted"):
        do(kernel, "import json\njson.loads('[' * 10 ** 6)")
    assert do(kernel, "result = api.generation") == 3


def test_an_invalid_request_of_a_guest_is_reported_without_our_frames(run: Run) -> None:
    kernel = run()
    with pytest.raises(PluginDied, match="it made a request that its worker cannot fulfil: UnicodeEncodeError"):
        do(kernel, "import wit_world\nwit_world.send('\u4e2d')")
    assert do(kernel, "result = api.generation") == 2
    assert [line.text for line in kernel.core.registry.get("p").logs] == []


def test_an_uncaught_interrupt_ends_a_guest_without_a_panic(run: Run) -> None:
    kernel = run()
    with pytest.raises(PluginDied, match="KeyboardInterrupt"):
        do(kernel, "raise KeyboardInterrupt")
    assert do(kernel, "result = api.generation") == 2


def test_the_engine_enforces_the_memory_limit(run: Run) -> None:
    kernel = run(limits={"memory": 128 << 20})
    assert do(kernel, "bytearray(200 << 20)") == ["MemoryError", ""]
    assert do(kernel, "result = len(bytearray(20 << 20))") == 20 << 20
    assert do(kernel, "result = api.generation") == 1


def test_too_little_memory_to_start_is_reported_at_once(run: Run) -> None:
    info = run(limits={"memory": 8 << 20}).info("p")
    assert (info.state, info.error_id, info.restarts) == ("failed", "MK0130", 0)
    assert "limits.memory is 8,388,608 bytes" in str(info.error)


def test_guests_have_different_random_numbers(run: Run) -> None:
    kernel = run()
    draw = "import random\nresult = random.random()"
    first = do(kernel, draw)
    kernel.reload("p")
    assert do(kernel, draw) != first


def test_determinism_on_request(run: Run) -> None:
    table = "[tool.microkernel.determinism]\nclock = 2026-01-01T08:00:00+08:00\nseed = 7"
    kernel = run(table)
    look = """
import random, secrets, uuid
from datetime import datetime, timezone
drawn = [os.urandom(4), secrets.token_hex(4), random.random(), str(uuid.uuid4())]
result = [time.time(), str(datetime.now(timezone.utc)), *drawn]
"""
    first = do(kernel, look)
    assert first[:2] == [1767225600.0, "2026-01-01 00:00:00+00:00"]
    kernel.reload("p")
    assert do(kernel, look) == first
    assert do(kernel, look)[2:] != first[2:], "it goes on drawing"


def test_determinism_is_refused_at_other_levels(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("# /// script\n# [tool.microkernel.determinism]\n# seed = 7\n# ///\n" + PLUGIN)
    with Kernel(tmp_path / "p.py", KernelConfig(data_dir=str(tmp_path / "data"))) as kernel:
        assert (kernel.info("p").state, kernel.info("p").error_id) == ("failed", "MK0128")


def test_from_process_to_wasm_and_back_with_its_state(tmp_path: Path) -> None:
    path = tmp_path / "plugins" / "p.py"
    path.parent.mkdir()

    def write(level: str) -> None:
        path.write_text(f'# /// script\n# [tool.microkernel]\n# isolation = "{level}"\n# ///\n' + PLUGIN)

    write("process")
    config = KernelConfig(data_dir=str(tmp_path / "data"))
    with Kernel(path.parent, config, grants={"p": "declared"}) as kernel:
        do(kernel, "self.state = ['kept', 7]")
        write("wasm")
        kernel.reload("p")
        assert kernel.info("p").isolation == "wasm"
        assert do(kernel, "result = self.state") == ["kept", 7]
        assert do(kernel, "result = sys.platform") == "wasi"
        write("process")  # a manifest cannot lower its own level
        with pytest.raises(Exception, match="MK0134"):
            kernel.reload("p")
        assert do(kernel, "result = self.state") == ["kept", 7]


def test_the_level_can_be_changed_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "p.py").write_text(PLUGIN)
    config = tmp_path / "microkernel.toml"

    def write(level: str) -> None:
        config.write_text(f'plugins = ["plugins"]\ndata_dir = "data"\n[plugin.p]\nisolation = "{level}"\n')

    write("process")
    with Kernel(config=config) as kernel:
        do(kernel, "self.state = ['kept', 7]")
        for level in ("wasm", "process"):
            write(level)
            kernel.reload("p")
            assert kernel.info("p").isolation == level
            assert do(kernel, "result = self.state") == ["kept", 7]


def test_a_guest_that_sends_malformed_frames_ends_alone(run: Run) -> None:
    kernel = run()
    with pytest.raises(PluginDied):
        do(kernel, "import wit_world\nwit_world.send('no frame at all, and longer than a head')\ntime.sleep(60)")
    eventually(lambda: kernel.info("p").generation == 2 and kernel.info("p").state == "active")
    assert do(kernel, "import wit_world\nresult = wit_world.reply(10 ** 6, 'x')") is False


def test_it_is_confined_as_a_sandbox_is(run: Run) -> None:
    found = run().info("p").protections
    assert next(iter(found)) == "engine"
    for name in ("engine", "file system", "network", "processes", "system calls", "capabilities", "memory"):
        assert found[name] == "enforced"


def test_the_worker_ends_with_its_kernel(run: Run) -> None:
    kernel = run()
    pid = kernel.info("p").pid
    assert pid is not None
    kernel.close()
    assert not os.path.exists(f"/proc/{pid}")
