"""When a system resource is exhausted, it is named, running plugins continue, and starts are retried.

Each test runs a separate program under a real limit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.attacks.support import PATIENCE, Plugins, Script

PLUGIN = """
class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @expose
    def ping(self): return "pong"
    @expose
    def die(self): os._exit(3)
    @expose
    def share(self, size: int): return self.api.share(bytes(size))
"""
HEAD = """
    import collections, os, resource, sys, threading, time
    from microkernel import Kernel, KernelConfig
    from microkernel.errors import KernelError

    def until(condition):
        deadline = time.monotonic() + 40
        while not (value := condition()):
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.01)
        return value

    def exhaust():
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return held

    def free(held):
        for descriptor in held:
            os.close(descriptor)

    def states(kernel):
        return collections.Counter(info.state for info in kernel.list())
"""


def crowd(folder: Path, count: int, **tables: object) -> Plugins:
    plugins = Plugins(folder / "plugins")
    for number in range(count):
        plugins.add(f"p{number:02}", PLUGIN, **tables)
    return plugins


def run(code: str, folder: Path, **variables: str) -> str:
    """What the program prints; it must end well, and complain of nothing."""
    status, out, errors = Script(HEAD + code, folder, **variables).end()
    assert status == 0, errors[-4000:]
    assert "Traceback" not in errors, errors[-4000:]
    assert "ResourceWarning" not in errors, errors[-4000:]
    return out


@pytest.mark.parametrize("level", ["thread", "process", "sandbox"])
def test_forty_plugins_with_two_hundred_and_fifty_six_descriptors(tmp_path: Path, level: str) -> None:
    """As many run as there is room for; the others say what they lack, and start when there is some."""
    crowd(tmp_path, 40, supervision={"backoff": 0.01})
    out = run(f"""
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30) if {level!r} == "thread" else (256, 256))
    with Kernel("plugins", isolation={level!r}, config=KernelConfig(data_dir=os.path.abspath("data"))) as kernel:
        infos = kernel.list()
        active = [info.name for info in infos if info.state == "active"]
        others = [info for info in infos if info.state != "active"]
        assert len(infos) == 40 and active and others, states(kernel)
        assert all("too many open files" in info.error.lower() for info in others), others
        assert all(kernel.call(f"{{name}}.ping", timeout=30) == "pong" for name in active)
        for name in active[:6]:
            kernel.kill(name)
        assert kernel.start(others[0].name, reset=True).state == "active"
        print(len(active))
    """, tmp_path)  # fmt: skip
    assert int(out) >= 8


def test_restart_is_retried_until_descriptors_are_available(tmp_path: Path) -> None:
    crowd(tmp_path, 3, supervision={"backoff": 0.01, "intensity": 500})
    out = run("""
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    with Kernel("plugins", isolation="process") as kernel:
        held = exhaust()
        try:
            kernel.call("p00.die", timeout=30)
        except KernelError as error:
            print(error.id)
        held += exhaust()
        info = until(lambda: "too many open files" in (kernel.info("p00").error or "") and kernel.info("p00"))
        print(info.state)
        assert kernel.call("p01.ping") == "pong"
        free(held)
        until(lambda: kernel.info("p00").state == "active")
        print(kernel.call("p00.ping"))
    """, tmp_path)  # fmt: skip
    assert out.split() == ["MK0214", "backoff", "pong"]


def test_kernel_that_cannot_open_reports_why_and_can_open_later(tmp_path: Path) -> None:
    crowd(tmp_path, 1)
    out = run("""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held, kernel = exhaust(), Kernel("plugins", isolation="process")
    try:
        kernel.open()
    except KernelError as error:
        caught = error
    kernel.close()
    free(held)
    print(caught)
    with kernel:
        print(kernel.call("p00.ping"))
    """, tmp_path)  # fmt: skip
    assert out.splitlines() == ["MK0515 not possible now: too many open files", "pong"]


def test_kernel_without_descriptors_continues(tmp_path: Path) -> None:
    """Events, calls, shared memory, visitors, reloads and deaths: each fails by itself, or not at all."""
    crowd(tmp_path, 3, supervision={"backoff": 0.01, "intensity": 500})
    out = run("""
    from microkernel.control.server import ControlServer
    from microkernel.control.client import ControlClient
    from microkernel.control.paths import socket_path
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
    said = []
    with Kernel("plugins", isolation="process", name="poor") as kernel:
        kernel.on("kernel.message", lambda text: said.append(text), inline=True)
        server = ControlServer(kernel.core)
        server.open()
        held = exhaust()
        assert len(kernel.call("p00.share", 1_000_000, timeout=30)) == 1_000_000  # without a memfd: as bytes
        for refused in (lambda: kernel.load("plugins/p01.py"), lambda: kernel.reload("p01")):
            try:
                refused()
            except KernelError as error:
                print(type(error).__name__)
        os.close(held.pop())
        import socket
        visitor = socket.socket(socket.AF_UNIX)
        visitor.connect(str(socket_path("poor")))  # there is no descriptor to accept it with
        assert kernel.call("p00.ping") == "pong"
        kernel.emit("any.thing")
        assert states(kernel)["active"] == 3
        visitor.close()
        free(held)
        until(lambda: len(kernel.call("p00.share", 1_000_000, timeout=30)) == 1_000_000)
        assert kernel.reload("p01").generation > 1
        server.close()
    """, tmp_path, XDG_RUNTIME_DIR=str(tmp_path))  # fmt: skip
    assert out.split() == ["ManifestError", "ReloadFailed"]


def _needs_namespaces() -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("this machine lets nobody make a user namespace")


def below(setup: str, code: str, folder: Path) -> str:
    """Run ``code`` as a script in new user and mount namespaces, after the shell lines of ``setup``."""
    _needs_namespaces()
    import textwrap

    script = folder / "script.py"
    script.write_text(textwrap.dedent(HEAD + code))
    command = ["unshare", "-Urm", "sh", "-ec", f"{setup}\nexec {sys.executable} -X dev {script}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE,
                          env={**os.environ, "XDG_RUNTIME_DIR": str(folder)})  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    return done.stdout


def test_watches_that_fail_are_reported_and_the_others_work(tmp_path: Path) -> None:
    """inotify has a limit of watches beside that of instances, and watchfiles passes over it."""
    plugins = Plugins(tmp_path / "plugins")
    for name in ("a", "b", "c", "d"):
        (plugins.folder / name).mkdir()
        (plugins.folder / name / "__init__.py").write_text(f"from microkernel import *\n{PLUGIN}")
    out = below("echo 3 > /proc/sys/user/max_inotify_watches", """
    from microkernel.kernel.manifest import Permissions
    from microkernel.kernel.config import PluginConfig
    import microkernel.plugins.watcher as watcher
    said = []
    control = PluginConfig(isolation="thread", permissions=Permissions(kernel=("observe", "control")))
    watcher._AGAIN = 0.05
    with Kernel("plugins", KernelConfig(plugin={"watcher": control})) as kernel:
        kernel.on("kernel.message", lambda id, text: said.append((id, text)), inline=True)
        kernel.load(os.path.dirname(watcher.__file__))
        print(until(lambda: [text for id, text in said if id == "MK0307"])[0])
        with open("/proc/sys/user/max_inotify_watches", "w") as limit:
            limit.write("100")
        with open("plugins/d/__init__.py", "a") as source:
            source.write("# saved\\n")
        until(lambda: kernel.info("d").generation == 2)
        print([text for id, text in said if id == "MK0307"][1:])
    """, tmp_path)  # fmt: skip
    assert out.splitlines() == [
        "files are not watched: the limit of inotify watches is reached, so that not all folders are watched", "[]",
    ]  # fmt: skip


@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_full_disk_is_reported_and_retried(tmp_path: Path, level: str) -> None:
    crowd(tmp_path, 1, supervision={"backoff": 0.01, "intensity": 500})
    (tmp_path / "full").mkdir()
    out = below(f"mount -t tmpfs -o size=8k,nr_inodes=2 none {tmp_path}/full; touch full/last", f"""
    config = KernelConfig(data_dir=os.path.abspath("full"))
    os.environ["TMPDIR"] = os.path.abspath("full")
    kernel = Kernel("plugins", config, isolation={level!r})
    opening = threading.Thread(target=kernel.open)
    opening.start()
    until(lambda: kernel._core is not None and kernel.list())
    if {level!r} == "sandbox":
        print(until(lambda: kernel.info("p00").error))
        os.unlink("full/last")
    opening.join()
    print(kernel.info("p00").state)
    kernel.close()
    """, tmp_path)  # fmt: skip
    lines = out.splitlines()
    assert lines[-1] == "active"
    assert level == "process" or "no space left on device" in lines[0]


PYTHON = "/usr/bin/python3"
NOBODY = 65534


def _as_nobody(code: str, folder: Path) -> str:
    """As an ordinary user, whose processes are counted; root's are not."""
    version = subprocess.run([PYTHON, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True,
                             check=False).stdout.strip()  # fmt: skip
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has other processes, which count as well")
    if shutil.which("setpriv") is None or version != str(sys.version_info[:2]):
        pytest.skip("no setpriv, or no other Python")
    import textwrap

    home = Path("/tmp") / f"microkernel-nproc-{os.getpid()}"
    installed = Path(pytest.__file__).parents[1]
    try:
        skipped = shutil.ignore_patterns("__pycache__", "mypy*", "pip", "pydantic*", "wasmtime*", "*componentize*")
        shutil.copytree(installed, home / "lib", ignore=skipped)
        shutil.copytree(Path(__file__).parents[3] / "src", home / "src", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(folder / "plugins", home / "work" / "plugins")
        (home / "work" / "script.py").write_text(textwrap.dedent(HEAD + code))
        subprocess.run(["chmod", "-R", "a+rX", home], check=True)
        os.chown(home / "work", NOBODY, NOBODY)
        done = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", PYTHON, "-X", "dev", "script.py"],
            cwd=home / "work", capture_output=True, text=True, check=False, timeout=PATIENCE,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{home}/src:{home}/lib", "HOME": f"{home}/work",
                 "TMPDIR": f"{home}/work", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    finally:
        shutil.rmtree(home)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_process_limit_is_reported_and_starts_are_retried(tmp_path: Path) -> None:
    """Also the kernel's own threads count: it goes on with those it has."""
    crowd(tmp_path, 24)
    out = _as_nobody("""
    limit, hard = 24, resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
    with Kernel("plugins", isolation="process") as kernel:
        active = [info.name for info in kernel.list() if info.state == "active"]
        others = [info for info in kernel.list() if info.state != "active"]
        assert active and others, states(kernel)
        for info in others:
            assert "no more threads or processes" in info.error or "temporarily unavailable" in info.error.lower(), info
        assert all(kernel.call(f"{name}.ping", timeout=30) == "pong" for name in active)
        for name in active:
            kernel.kill(name)
        print(kernel.start(others[0].name, reset=True).state)
    """, tmp_path)  # fmt: skip
    assert out.split() == ["active"]


def test_kernel_with_limited_memory_continues(tmp_path: Path) -> None:
    """No thread can be had: each needs room for its stack."""
    crowd(tmp_path, 3, supervision={"backoff": 0.01, "intensity": 500})
    out = run("""
    with Kernel("plugins", isolation="process") as kernel:
        unlimited = resource.getrlimit(resource.RLIMIT_AS)
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 4 * 1024 * 1024, unlimited[1]))
        over, threads = threading.Event(), []
        try:
            while True:
                threads.append(threading.Thread(target=over.wait))
                threads[-1].start()
        except RuntimeError as error:
            print("start new thread" in str(error))
        try:
            kernel.call("kernel.list")
        except KernelError as error:
            print(error)
        try:
            kernel.call("p00.die", timeout=30)
        except KernelError as error:
            print(error.id)
        assert kernel.call("p01.ping", timeout=30) == "pong"
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        over.set()
        until(lambda: kernel.info("p00").generation == 2)
        print(kernel.call("p00.ping", timeout=30))
    """, tmp_path)  # fmt: skip
    assert out.splitlines() == ["True", "MK0515 not possible now: no more threads or processes", "MK0214", "pong"]
