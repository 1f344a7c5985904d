"""The level is provided completely or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.errors import PluginDied
from microkernel.hosts import sandbox
from microkernel.hosts.confined.host import limits_of
from microkernel.hosts.confined.runner import defect_of
from microkernel.hosts.wasm import host as wasm_host
from microkernel.hosts.worker import zygote
from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.testing import HOST_CHECKS, check_host
from microkernel.wire.messages import ConfinementReport
from microkernel.worker.confine import landlock, seccomp
from tests.harness.leftovers import gone
from tests.security.attacks.support import HEADER, HEALTHY, eventually, state_is
from tests.security.sandbox.conftest import KernelFactory


def lacking(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Simulate a machine without this layer, for the workers of this test's kernels."""
    code = {
        "landlock": "from microkernel.worker.confine import landlock; landlock._CREATE = 9999",
        "seccomp": "from microkernel.worker.confine import seccomp; seccomp._PR_SET_SECCOMP = 9999",
        "machine": "import platform; platform.machine = lambda: 'riscv64'",
        "a wall": "from microkernel.worker.confine import sandbox; sandbox._FORBIDDEN = '/usr/lib'",
    }[what]

    monkeypatch.setattr(zygote, "_BOOT", zygote._BOOT.replace("; main()", f"; {code}; main()"))


@pytest.mark.parametrize(("what", "named"), [
    ("landlock", "Landlock: "),
    ("seccomp", "seccomp: "),
    ("machine", "no table of system calls for riscv64"),
    ("a wall", "a confinement check failed: files"),
])  # fmt: skip
def test_a_missing_layer_is_named_and_nothing_runs(
    what: str, named: str, kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch, what)
    config = KernelConfig(data_dir=str(kernels.folder / "data"))
    with Kernel(kernels.path.parent, config, isolation="sandbox", grants={"p": {}}) as kernel:
        info = kernel.info("p")
        assert (info.state, info.error_id) == ("failed", "MK0501")
        assert named in str(info.error)
        assert named in str(kernel.available()["sandbox"].error)


def test_a_weaker_level_only_where_the_operator_lists_it(
    kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch, "landlock")
    monkeypatch.setattr(wasm_host, "find_spec", lambda name: None)
    config = KernelConfig(data_dir=str(kernels.folder / "data"), fallback=("wasm", "process"))
    with Kernel(kernels.path.parent, config, isolation="sandbox", grants={"p": {}}) as kernel:
        assert (kernel.info("p").state, kernel.info("p").isolation) == ("active", "process")


def test_a_worker_that_cannot_be_confined_gets_no_source(
    kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holds even if the machine could do it a moment before."""
    monkeypatch.setattr(sandbox, "defect_of", lambda confined: "")
    lacking(monkeypatch, "seccomp")
    config = KernelConfig(data_dir=str(kernels.folder / "data"))
    with Kernel(kernels.path.parent, config, isolation="sandbox", grants={"p": {}}) as kernel:
        info = kernel.info("p")
        assert (info.state, info.error_id) == ("failed", "MK0501")
        assert "seccomp: " in str(info.error)


def test_without_namespaces_confinement_works_and_threads_are_watched(
    kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch, no_cgroups: None
) -> None:
    """As in a container that allows neither namespaces nor control groups. The limit on threads cannot be enforced
    where its user is not counted separately."""

    none = "from microkernel.worker.confine import privileges; privileges.enter_namespaces = lambda: []"
    monkeypatch.setattr(zygote, "_BOOT", zygote._BOOT.replace("; main()", f"; {none}; main()"))
    kernel = kernels.kernel("sandbox", {}, threads=16)
    protections = kernel.info("p").protections
    assert "no namespaces" in kernel.available()["sandbox"].detail
    assert {name for name, how in protections.items() if how == "unavailable"} == {
        "cpu", "processors", "user namespace", "net namespace", "ipc namespace", "uts namespace",
    }  # fmt: skip
    assert protections["threads"] == "watched"
    many = "for _ in range(40): threading.Thread(target=time.sleep, args=(60,)).start()\ntime.sleep(30)"
    with pytest.raises(PluginDied, match=r"over its limit: 4[0-9] threads, limits.threads is 16"):
        kernel.call("p.do", many, {}, timeout=30.0)


def test_doctor_shows_each_layer(kernels: KernelFactory) -> None:
    detail = kernels.kernel("sandbox", {}).available()["sandbox"].detail
    assert detail.startswith(f"Landlock ABI {landlock.landlock_abi()} · seccomp · ")
    assert "namespaces" in detail


def test_a_defect_is_named() -> None:
    assert defect_of(ConfinementReport(7, [], [])) == ""
    assert defect_of(ConfinementReport(7, [], ["files"]), ["files"]) == ""
    assert "network" in defect_of(ConfinementReport(7, [], ["files", "network"]), ["files"])
    assert defect_of(ConfinementReport(missing="Landlock: x")) == "Landlock: x"


def test_the_first_message_of_a_worker_must_be_its_confinement_report(
    kernels: KernelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:

    lie = (
        "from microkernel.worker import main as m; from microkernel.wire.messages import Pong; "
        "m.confine = lambda walls: type('Lie', (Pong,), {'missing': ''}, tag=6)(1)"
    )
    monkeypatch.setattr(zygote, "_BOOT", zygote._BOOT.replace("; main()", f"; {lie}; main()"))
    monkeypatch.setattr(sandbox.SandboxHost, "_try", lambda self: super(sandbox.SandboxHost, self).available())
    config = KernelConfig(data_dir=str(kernels.folder / "data"), limits={"load": 5.0})
    with Kernel(kernels.path.parent, config, isolation="sandbox", grants={"p": {}}) as kernel:
        assert kernel.info("p").state != "active"


def test_filters_are_for_this_machine() -> None:
    assert seccomp.machine() in ("x86_64", "aarch64")


def test_limits_have_defaults() -> None:
    assert limits_of({"memory": 0, "files": 9, "load": 1.0}) == {
        "memory": 512 << 20, "files": 9, "load": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("exception", ["no_such_check"])
def test_the_contract_knows_its_checks(exception: str) -> None:
    with pytest.raises(ValueError, match="no such checks"):
        check_host("sandbox", [exception])


def test_the_contract_is_for_this_level_too() -> None:
    all_but = {name for name, check in HOST_CHECKS.items() if {"process", "sandbox"} & {*check.levels} == {"process"}}
    assert all_but == {"a_buffer_may_be_larger_than_a_payload", "what_a_plugin_started_ends_with_it"}


def test_a_data_folder_is_made(kernels: KernelFactory) -> None:
    kernels.kernel("sandbox", {})
    assert Path(kernels.folder, "data-sandbox", "p").is_dir()


def test_a_data_folder_that_cannot_be_created_fails_only_that_plugin(kernels: KernelFactory) -> None:
    """At the first start, and at a restart after a crash."""
    (kernels.path.parent / "healthy.py").write_text(HEADER + HEALTHY)
    data = kernels.folder / "data"
    data.write_text("no folder")
    levels = {"healthy": PluginConfig(isolation="process"), "p": PluginConfig(isolation="sandbox")}
    config = KernelConfig(data_dir=str(data), plugin=levels)
    with Kernel(kernels.path.parent, config, grants={"p": {}}) as kernel:
        info = kernel.info("p")
        assert (info.state, info.error_id) == ("failed", "MK0129")
        assert "not a directory" in str(info.error)
        assert kernel.info("healthy").state == "active"
        data.unlink()
        started = kernel.start("p")
        assert started.state == "active"
        shutil.rmtree(data)
        data.write_text("no folder again")
        os.kill(started.pid or 0, signal.SIGKILL)
        given_up = state_is(kernel, "p", "quarantined")  # a restart that fails is retried, within the budget
        assert "not a directory" in str(given_up.error)
        assert kernel.info("healthy").state == "active"


_LIVES_ON = """
import os, sys, time
from microkernel import Kernel
kernel = Kernel(sys.argv[1], isolation="sandbox", grants={"p": {}})
kernel.open()
close = '''
for number in range(3, 100):
    try:
        if stat.S_ISFIFO(os.fstat(number).st_mode): os.close(number)
    except OSError: pass
threading.Thread(target=time.sleep, args=(3600,)).start()  # it waits for this one when its channel has ended
'''
assert kernel.call("p.do", close, {}, timeout=30.0) == [None, None]
print(kernel.info("p").pid, kernel._hosts._hosts["sandbox"].zygote_pid, flush=True)
time.sleep(3600)
"""


def test_a_worker_that_closed_its_lifeline_ends_with_the_zygote(kernels: KernelFactory) -> None:
    command = [sys.executable, "-c", _LIVES_ON, str(kernels.path.parent)]
    home = {**os.environ, "XDG_STATE_HOME": str(kernels.folder / "state")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=home) as kernel:
        assert kernel.stdout is not None
        worker, zygote = map(int, kernel.stdout.readline().split())
        os.kill(zygote, signal.SIGSTOP)  # so that neither can clean up after the other
        kernel.kill()
        kernel.wait()
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda: gone(worker), "the worker has ended")
