"""A worker: a fork of the zygote that sets itself up, runs one instance, and exits."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TextIO

from microkernel.sdk import denials
from microkernel.sdk.binding.handlers import warm_up
from microkernel.sdk.runtime.runtime import Runtime
from microkernel.wire.messages import ConfinementReport, Failed, Failure
from microkernel.wire.session import Session, pack
from microkernel.worker import file_attribute_shim, socket_shim
from microkernel.worker.buffer_mappings import BufferMappings
from microkernel.worker.children import keep_sources
from microkernel.worker.confine.sandbox import confine
from microkernel.worker.inherited_state import take_environment
from microkernel.worker.orphans import reap_orphans
from microkernel.worker.process_setup import apply_request
from microkernel.worker.worker_channel import WorkerChannel

# Exit status of a worker that failed before it could run its plugin.
SETUP_FAILED = 70


def prepare() -> None:
    """Prepare in the zygote, once, what all its workers need.

    Code that runs after the fork costs each worker its time, and a private copy of each page of memory that it writes.
    """
    os.environ.clear()
    os.dup2(2, 1)  # a pipe, as in a worker: a file object remembers the kind of file it was opened on
    sys.stdout, sys.stderr = _open_stream(1), _open_stream(2)
    faulthandler.enable()
    warm_up()
    sys.modules["microkernel"].leave_out_embedding()  # no import, because the public package is above this one


def become_worker(request: dict[str, Any], descriptors: Sequence[int], lifeline: int) -> NoReturn:
    """Run a worker to its end; never returns. ``descriptors``: D, U, stdout, stderr, then the reply lanes."""
    status = SETUP_FAILED
    try:
        kept = _set_up(request, descriptors, lifeline)
        status = _run_instance(kept, request)
    except SystemExit:
        _die_by_sigterm()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        exit_process(status)


def _set_up(request: dict[str, Any], descriptors: Sequence[int], lifeline: int) -> list[int]:
    """Set up the process as the request describes. If that fails, the kernel is sent the reason."""
    up = descriptors[1]
    try:
        kept = apply_request(request, descriptors, lifeline)
        up = kept[1]
        _configure_process(request)
    except Exception as error:
        _send_setup_failure(up, request, f"a worker cannot be set up: {type(error).__name__}: {error}")
        raise
    return kept


def _send_setup_failure(up: int, request: dict[str, Any], reason: str) -> None:
    failure = Failure("IsolationUnavailable", "MK0501", {"level": "process", "reason": reason})
    report = ConfinementReport(missing=reason) if request.get("confine") else Failed("confine", failure)
    with socket.socket(fileno=os.dup(up)) as end:
        end.send(Session("worker").hello())
        end.send(pack([report]))


def _run_instance(descriptors: Sequence[int], request: dict[str, Any]) -> int:
    confinement, guest = request.get("confine"), request.get("guest")
    down, up, *lanes = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    broker = socket_shim.BrokerClient(
        sys.argv[0], lanes.pop() if confinement is not None and confinement.get("net") else None
    )
    files = lanes.pop() if confinement is not None and confinement.get("files") else None
    channel = WorkerChannel(down, up, lanes, BufferMappings(lanes.pop()) if confinement is None else None)
    if confinement is not None:
        confined = confine(confinement)
        socket_shim.install(broker)
        if files is not None:
            file_attribute_shim.install(files)
        channel.send(confined)
        if confined.missing and guest is None:
            return SETUP_FAILED
    if guest is not None:
        from microkernel.worker.wasm import runner

        return runner.run(down, up, lanes, broker, guest, channel.send)
    chores = reap_orphans() if confinement is None else None
    runtime = Runtime(channel, keep=partial(keep_sources, request.get("modules", b"")), chores=chores)
    runtime.run()
    _releases.append(runtime.release)
    return 0


def _configure_process(request: dict[str, Any]) -> None:
    take_environment(request["env"])
    with contextlib.suppress(OSError):  # the kernel's own folder may have been removed
        os.chdir(request["cwd"])
    if request["path"]:
        sys.path[:] = map(os.fsdecode, request["path"])
    sys.argv[:] = [request["name"]]
    signal.signal(signal.SIGTERM, _on_term)
    os.register_at_fork(before=_block_sigterm, after_in_parent=_unblock_sigterm, after_in_child=_reset_sigterm_in_child)
    if "guest" in request:  # the engine detects traps by signals, which the fault handler would intercept
        faulthandler.disable()
    _register_stack_dump(*request["stacks"])
    _explain_denials(request)
    gc.enable()


def _explain_denials(request: dict[str, Any]) -> None:
    confinement = request.get("confine")
    threads = {"threads": confinement["threads"]} if confinement is not None else {}
    denials.set_bounds(request["name"], "sandbox" if confinement is not None else "", {**request["limits"], **threads})
    threading.excepthook = denials.explaining_hook(threading.excepthook)


def _register_stack_dump(file: str, at: int) -> None:
    """Write all stacks to a memory file at this signal, which the kernel sends.

    The fault handler does that in C, so it works also while Python does not run.
    """
    faulthandler.register(at, os.memfd_create(file), all_threads=True)


def _open_stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _on_term(_number: int, _frame: object) -> None:
    """Raise SystemExit once: code that can clean up may do so. Code that does not end is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit("SIGTERM")


def _die_by_sigterm() -> None:
    """Die by SIGTERM, which came while there was no plugin that could handle it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


# By thread, its signal mask before a fork that is in progress.
_signal_masks: dict[int, set[int]] = {}


def _block_sigterm() -> None:
    """Block SIGTERM until a forked child has its own handler: the interpreter drops signals in between, and the child
    would live on."""
    _signal_masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))


def _unblock_sigterm() -> None:
    if (mask := _signal_masks.pop(threading.get_ident(), None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _reset_sigterm_in_child() -> None:
    """Restore the default action: a process that the plugin forks ends by SIGTERM, as that of any program does."""
    if signal.getsignal(signal.SIGTERM) in (_on_term, signal.SIG_IGN):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _unblock_sigterm()


_releases: list[Callable[[], object]] = []


def exit_process(status: int) -> NoReturn:
    """Exit as a Python program does, in the interpreter's order, but without tearing down all modules.

    That is: threads that are not daemons, and what waits for them (``concurrent.futures``); ``atexit``, with the
    finalizers of ``multiprocessing`` and ``logging.shutdown``; the plugin's objects; the buffers of open files.
    """
    try:
        for step in (threading._shutdown, atexit._run_exitfuncs, _drop_plugin, _flush_files):  # type: ignore[attr-defined]
            _run_step(step)
    finally:
        os._exit(status)


def _run_step(step: Callable[[], object]) -> None:
    try:
        step()
    except SystemExit:
        pass  # SIGTERM: this step takes too long
    except BaseException:
        sys.excepthook(*sys.exc_info())


def _drop_plugin() -> None:
    """Drop the plugin's objects, so that ``__del__`` runs and they close what they hold.

    A daemon thread may still use the plugin's modules, so then they stay. The interpreter would block such a thread,
    which cannot be done here.
    """
    if threading.active_count() == 1:
        for release in _releases:
            release()
        # In a cycle, parts may be closed before the object whose ``__del__`` uses them. Errors that this raises are not
        # reported; neither does the interpreter report them when it collects at its end.
        sys.unraisablehook = _ignore_unraisable
        gc.collect()


def _ignore_unraisable(_unraisable: object) -> None:
    """Report nothing, as the interpreter does at its end."""


def _flush_files() -> None:
    for each in gc.get_objects():
        if isinstance(each, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(OSError, ValueError):  # its descriptor is closed, or the disk is full
                each.flush()
    sys.stdout.flush()
    sys.stderr.flush()
