"""Which state a worker inherits from the program, and which is reset: each entry of ``worker/inherited_state.py``."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from microkernel import Kernel
from microkernel.errors import IsolationUnavailable
from microkernel.hosts.worker import zygote

STATE = """
import faulthandler, gc, json, locale, os, resource, signal, socket, sys, time, warnings
def state():
    signals = signal.valid_signals()
    return {
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "ignored": sorted(n for n in signals if signal.getsignal(n) is signal.SIG_IGN),
        "sigint": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "sigchld": signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL,
        "socket time-out": socket.getdefaulttimeout(),
        "recursion limit": sys.getrecursionlimit(),
        "warning filters": [str(each) for each in warnings.filters],
        "gc": [gc.isenabled(), *gc.get_threshold()],
        "development mode": sys.flags.dev_mode,
    }
"""
PLUGIN = (
    STATE
    + """
import ctypes, subprocess
from microkernel import IPlugin, expose
class Plugin(IPlugin):
    def start(self): ...
    def stop(self): ...
    @expose
    def state(self) -> dict: return state()
    @expose
    def die(self): os._exit(5)
    @expose
    def environment(self) -> dict: return dict(os.environ)
    @expose
    def do(self, code: str):
        found = {}
        exec(code, globals(), found)
        return found.get("result")
"""
)
PROGRAM = """
import ctypes, gc, json, os, resource, signal, socket, subprocess, sys, threading, time, warnings
from microkernel import Kernel, KernelConfig
from microkernel.errors import PluginDied
folder = sys.argv[1]
{setting}
def run():
    {before}
    with Kernel(folder + "/probe.py") as kernel:
        result = {ask}
    print(json.dumps(result), file=out, flush=True)
{run}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "probe.py").write_text(PLUGIN)
    return tmp_path


def program(
    folder: Path, ask: str, setting: str = "", before: str = "pass", run: str = "run()", **variables: str
) -> Any:
    """Return what a separate program with this setting finds in its plugin."""
    setting = "out = os.fdopen(os.dup(1), 'w')\n" + textwrap.dedent(setting)
    code = PROGRAM.format(setting=setting, before=before, ask=ask, run=run)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fresh() -> dict[str, Any]:
    code = f"{STATE}\nprint(json.dumps(state()))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


SETTINGS = {
    "every signal blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "every signal ignored": """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
    """,
    "signals handled": """
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
    """,
    "a socket time-out": "socket.setdefaulttimeout(0.05)",
    "non-blocking sockets": "socket.setdefaulttimeout(0)",
    "a low recursion limit": "sys.setrecursionlimit(400)",
    "warnings as errors": "warnings.simplefilter('error')",
    "no gc": "gc.disable(); gc.freeze(); gc.set_threshold(7, 7, 7)",
    "standard streams closed": "for number in (0, 1, 2): os.close(number)",
    "a working folder that is gone": "os.mkdir('/tmp/gone-%d' % os.getpid()); os.chdir('/tmp/gone-%d' % os.getpid())\n"
    "os.rmdir(os.getcwd())",
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_process_state_of_the_program_does_not_reach_a_worker(folder: Path, setting: str) -> None:
    ask = "[kernel.call('probe.state', timeout=20), (time.sleep(0.1), kernel.call('probe.state', timeout=20))[1]]"
    first, later = program(folder, ask, SETTINGS[setting])
    assert first == later == fresh()


@pytest.mark.parametrize("variables", [{"PYTHONWARNINGS": "error"}, {"PYTHONDEVMODE": "1"}, {"PYTHONINSPECT": "1"}])
def test_python_variables_of_the_program_do_not_configure_a_worker(folder: Path, variables: dict[str, str]) -> None:
    assert program(folder, "kernel.call('probe.state', timeout=20)", **variables) == fresh()


def test_the_signal_mask_of_the_opening_thread_does_not_reach_a_worker(folder: Path) -> None:
    found = program(
        folder,
        "kernel.call('probe.state', timeout=20)",
        before="signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        run="thread = threading.Thread(target=run); thread.start(); thread.join()",
    )
    assert found == fresh()


DEATH = """
def death(kernel):
    began = time.monotonic()
    try:
        kernel.call("probe.die", timeout=30)
    except PluginDied as error:
        return [str(error.fields["reason"]), time.monotonic() - began < 10]
"""


@pytest.mark.parametrize(
    "setting", ["every signal blocked", "every signal ignored", "a socket time-out", "standard streams closed"]
)
def test_an_exit_is_noticed_at_once_whatever_the_program_has_set(folder: Path, setting: str) -> None:
    assert program(folder, "death(kernel)", DEATH + textwrap.dedent(SETTINGS[setting])) == ["exit status 5", True]


def test_a_worker_has_three_standard_streams_and_no_descriptor_of_the_program(folder: Path) -> None:
    setting = "held = os.open('/etc/passwd', os.O_RDONLY); os.set_inheritable(held, True)"
    code = "import glob\nresult = {n[14:]: os.readlink(n) for n in glob.glob('/proc/self/fd/*') if os.path.lexists(n)}"
    held = program(folder, f"kernel.call('probe.do', {code!r})", setting)
    assert (held["0"], held["1"][:4], held["2"][:4]) == ("/dev/null", "pipe", "pipe")
    assert "/etc/passwd" not in held.values()


INHERITED = {
    "umask": ("os.umask(0o027)", "result = os.umask(0)", 0o027),
    "nice": ("os.nice(5)", "result = os.nice(0)", min(os.nice(0) + 5, 19)),
    "affinity": (
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "result = len(os.sched_getaffinity(0))", 1,
    ),
    "limits": (
        "resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, 4 << 20))",
        "result = resource.getrlimit(resource.RLIMIT_STACK)", [4 << 20, 4 << 20],
    ),
    "address space": (
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))",
        "result = resource.getrlimit(resource.RLIMIT_AS)", [8 << 30, 8 << 30],
    ),
    "open files, raised to the hard limit": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))",
        "result = resource.getrlimit(resource.RLIMIT_NOFILE)", [300, 300],
    ),
    "no core files": (
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)",
        "result = resource.getrlimit(resource.RLIMIT_CORE)", [0, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", INHERITED)
def test_settings_of_the_operator_apply_to_workers(folder: Path, what: str) -> None:
    setting, code, expected = INHERITED[what]
    assert program(folder, f"kernel.call('probe.do', {code!r})", setting) == expected


def test_a_worker_is_in_the_cgroup_of_the_program_or_below_it(folder: Path) -> None:
    code = "result = open('/proc/self/cgroup').read()"
    found, ours = program(folder, f"[kernel.call('probe.do', {code!r}), open('/proc/self/cgroup').read()]")
    pairs = list(zip(found.splitlines(), ours.splitlines(), strict=True))
    assert [(its, own) for its, own in pairs if not f"{its}/".startswith(f"{own.rstrip('/')}/")] == []


def test_locale_and_time_zone_follow_the_environment_also_after_a_change(folder: Path) -> None:
    code = "result = [time.tzname[0], time.strftime('%Z', time.localtime(0)), locale.setlocale(locale.LC_CTYPE)]"
    ask = f"""[kernel.call('probe.do', {code!r}), os.environ.update(TZ='XYZ-3', LC_ALL='C'),
        kernel.stop('probe') and None, kernel.start('probe') and None, kernel.call('probe.do', {code!r})]"""
    found = program(folder, ask, TZ="ABC-2", LC_ALL="C.UTF-8")
    assert found[0] == ["ABC", "ABC", "C.UTF-8"]
    assert found[4][:2] == ["XYZ", "XYZ"]
    assert found[4][2] in ("C", "C.UTF-8")  # an interpreter may use UTF-8 in place of C


OF_ONE_PROCESS = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
    "CREDENTIALS_DIRECTORY", "FDSTORE", "JOURNAL_STREAM", "MEMORY_PRESSURE_WATCH", "MICROKERNEL_ZYGOTE",
)  # fmt: skip


@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_variables_of_the_program_alone_never_reach_a_worker_granted_or_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    for name in (*OF_ONE_PROCESS[:-1], "OF_ALL"):
        monkeypatch.setenv(name, "1")
    with Kernel(folder / "probe.py", isolation=level, grants={"probe": {"env": [*OF_ONE_PROCESS, "OF_ALL"]}}) as kernel:
        found = kernel.call("probe.environment")
    assert "OF_ALL" in found
    assert not set(OF_ONE_PROCESS) & set(found)


# Variables that the dynamic loader reads at exec


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with a shared library that is found only by LD_LIBRARY_PATH."""
    with open("/proc/self/maps") as maps:
        source = next(line.split()[-1] for line in maps if "/libm.so" in line or "/libm-" in line)
    vendor = tmp_path / "vendor"
    vendor.mkdir()
    shutil.copy(source, vendor / "libvendor.so")
    return vendor


LOAD = "result = bool(ctypes.CDLL('libvendor.so').cos)"


def test_a_library_path_of_the_program_applies_in_a_worker(folder: Path, library: Path) -> None:
    assert program(folder, f"kernel.call('probe.do', {LOAD!r})", LD_LIBRARY_PATH=str(library))


def test_a_library_path_that_the_program_sets_later_applies_from_the_next_start(folder: Path, library: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, Kernel(folder / "probe.py") as kernel:
        before = kernel._hosts._hosts["process"].zygote_pid  # type: ignore[attr-defined]
        patch.setenv("LD_LIBRARY_PATH", str(library))
        kernel.stop("probe")
        kernel.start("probe")
        assert kernel.call("probe.do", LOAD)
        until = time.monotonic() + 20
        while os.path.exists(f"/proc/{before}"):  # it had no worker left
            assert time.monotonic() < until
            time.sleep(0.005)
        patch.delenv("LD_LIBRARY_PATH")
        kernel.stop("probe")
        kernel.start("probe")
        assert kernel.call("probe.do", "result = os.environ.get('LD_LIBRARY_PATH')") is None


def test_loader_variables_reach_a_process_and_not_a_sandbox(folder: Path, library: Path) -> None:
    mapped = "result = 'libvendor.so' in open('/proc/self/maps').read()"
    there = f"ctypes.CDLL(None).dl_iterate_phdr and {mapped[9:]}"
    found = program(folder, f"kernel.call('probe.do', 'result = ' + {there!r})", LD_PRELOAD=f"{library}/libvendor.so")
    assert found is True
    ask = "open(f'/proc/{kernel.info(\"probe\").pid}/maps').read()"
    setting = "import functools\nKernel = functools.partial(Kernel, isolation='sandbox')"
    assert "libvendor.so" not in program(folder, ask, setting, LD_PRELOAD=f"{library}/libvendor.so")


def interpreter(folder: Path, text: str) -> str:
    path = folder / "python-of-its-own"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


NEEDS = 'if [ "$LD_LIBRARY_PATH" != /opt/own ]; then echo "error while loading: libown.so" >&2; exit 127; fi\n'


@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_an_interpreter_that_needs_a_library_path_has_it_or_is_refused_by_doctor_and_kernel_alike(
    folder: Path, monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    python = interpreter(folder, f'{NEEDS}exec {sys.executable} "$@"')
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/own")
    with Kernel(folder / "probe.py", isolation=level, python=python) as kernel:
        assert kernel.info("probe").state == "active"
        assert kernel.available()[level].error is None
    monkeypatch.delenv("LD_LIBRARY_PATH")
    with Kernel(folder / "probe.py", isolation=level, python=python) as kernel:
        info, error = kernel.info("probe"), kernel.available()[level].error
    assert (info.state, info.error_id) == ("failed", "MK0501")
    assert error is not None
    assert error.fields == info.error_fields
    assert "error while loading: libown.so" in info.error_fields["reason"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f'{sys.executable} "$@"', "a script must exec the interpreter"),
        ("exit 3", "it ended with exit status 3 and printed nothing; `python` must be a Python interpreter"),
        ("kill -9 $$", "must be a Python interpreter"),
        ("echo first >&2; echo second >&2; exit 1", "second"),
    ],
)
def test_a_program_that_is_not_an_interpreter_is_reported_as_such(folder: Path, script: str, reason: str) -> None:
    with Kernel(folder / "probe.py", python=interpreter(folder, script)) as kernel:
        info = kernel.info("probe")
    assert (info.state, info.error_id) == ("failed", "MK0501")
    assert reason in info.error_fields["reason"]


def test_an_interpreter_that_hangs_is_waited_for_once_whatever_it_has_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(zygote, "_START_TIMEOUT", 1.0)
    (folder / "second.py").write_text(PLUGIN)
    python = interpreter(folder, f"echo $$ >> {folder}/started; sleep 1000 & wait")
    began = time.monotonic()
    with Kernel([folder / "probe.py", folder / "second.py"], python=python) as kernel:
        states = {info.name: (info.state, info.error_id) for info in kernel.list()}
    assert states == {"probe": ("failed", "MK0501"), "second": ("failed", "MK0501")}
    assert len((folder / "started").read_text().split()) == 1
    assert time.monotonic() - began < 20


def test_a_missing_interpreter_is_refused_by_name(folder: Path) -> None:
    with Kernel(folder / "probe.py", python=folder / "none") as kernel:
        assert f"{folder}/none: No such file or directory" in kernel.info("probe").error_fields["reason"]


def test_an_interpreter_may_be_a_path_object_or_belong_to_an_environment(folder: Path) -> None:
    link = folder / "python"
    link.symlink_to(sys.executable)
    with Kernel(folder / "probe.py", python=Path(sys.executable)) as kernel:
        assert kernel.info("probe").state == "active"


# A program that is not an interpreter

FROZEN = {
    "sys.frozen": "sys.frozen = True",
    "Nuitka": "sys.modules['__main__'].__compiled__ = True",
    "no executable": "import functools\nsys.executable = ''\nKernel = functools.partial(Kernel, python='')",
}


@pytest.mark.parametrize("level", ["process", "sandbox", "wasm"])
def test_a_frozen_program_is_refused_before_it_starts_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr("subprocess.Popen", None)
    with Kernel(folder / "probe.py", isolation=level) as kernel:
        info = kernel.info("probe")
        refused = kernel.available()[level].error
    assert (info.state, info.error_id) == ("failed", "MK0517")
    assert "python=" in str(info.error)
    assert isinstance(refused, IsolationUnavailable)


@pytest.mark.parametrize("way", FROZEN)
def test_a_program_whose_executable_is_not_an_interpreter_is_refused(folder: Path, way: str) -> None:
    assert program(folder, "kernel.info('probe').error_id", FROZEN[way]) == "MK0517"


def test_a_frozen_program_runs_plugins_at_thread_and_with_a_separate_interpreter(folder: Path) -> None:
    setting = "import functools\npython = sys.executable\nsys.frozen, sys.executable = True, '/not/there'\n"
    for option in ("python=python", "isolation='thread'"):
        frozen = f"{setting}Kernel = functools.partial(Kernel, {option})"
        assert program(folder, "kernel.info('probe').state", frozen) == "active"


def test_a_frozen_program_that_does_not_say_so_starts_itself_only_once(folder: Path) -> None:
    again = folder / "program.py"
    again.write_text(f"""
import sys
from microkernel import Kernel
open({str(folder / "runs")!r}, "a").write("x")
with Kernel({str(folder / "probe.py")!r}, python=sys.executable) as kernel:
    print(kernel.info("probe").error, file=sys.stderr)
""")
    itself = folder / "python-of-its-own"
    code = f'import sys; sys.executable = "{itself}"; exec(open("{again}").read())'
    started = interpreter(folder, f"exec {sys.executable} -c '{code}'")
    done = subprocess.run([started], capture_output=True, text=True, timeout=60, check=True)
    assert (folder / "runs").read_text() == "xx"
    assert "MK0517" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize("level", ["process", "sandbox"])
def test_the_reason_is_reported_without_proc(folder: Path, level: str) -> None:
    code = f"""
from microkernel import Kernel
with Kernel({str(folder / "probe.py")!r}, isolation={level!r}) as kernel:
    print(kernel.info("probe").state, kernel.info("probe").error, kernel.available()[{level!r}].error)
"""
    inside = f"umount -l /proc && exec {sys.executable} -c '{code.replace(chr(39), chr(34))}'"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside], capture_output=True, text=True, timeout=60, check=False
    )
    if "umount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this machine does not let us unmount")
    assert done.stdout.startswith("failed MK0501")
    assert done.stdout.count("/proc is not mounted") == 2


def test_a_worker_that_cannot_be_set_up_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    broken = "import microkernel.worker.main as m; m.take_environment = None"
    monkeypatch.setattr(zygote, "_BOOT", zygote._BOOT.replace("; main()", f"; {broken}; main()"))
    for level in ("process", "sandbox"):
        with Kernel(folder / "probe.py", isolation=level) as kernel:  # type: ignore[arg-type]
            info = kernel.info("probe")
        assert (info.state, info.error_id) == ("failed", "MK0501")
        assert "NoneType" in info.error_fields["reason"]


@pytest.mark.parametrize("limit", ["files", "memory", "file_size"])
def test_a_limit_above_the_operators_is_lowered_to_it(folder: Path, limit: str) -> None:
    names = {"files": "RLIMIT_NOFILE", "memory": "RLIMIT_DATA", "file_size": "RLIMIT_FSIZE"}
    most = 128 if limit == "files" else 1 << 30
    setting = f"""
        import functools
        resource.setrlimit(resource.{names[limit]}, ({most}, {most}))
        from microkernel.kernel.manifest import Limits
        Kernel = functools.partial(Kernel, config=KernelConfig(limits={{"{limit}": {most * 2}}}))
    """
    code = f"result = resource.getrlimit(resource.{names[limit]})"
    assert program(folder, f"kernel.call('probe.do', {code!r})", setting) == [most, most]
