"""A program that embeds a kernel loads only what a kernel without plugins needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Slow to load, and needed only by some plugins, levels or features.
NEEDED_LATER = frozenset({
    "_hashlib", "asyncio", "bz2", "concurrent.futures", "email", "hashlib", "hmac", "http", "importlib.metadata",
    "importlib.resources", "logging.config", "logging.handlers", "lzma", "multiprocessing", "packaging",
    "prompt_toolkit", "random", "rich", "secrets", "shutil", "ssl", "subprocess", "tempfile", "tomllib", "typer",
    "wasmtime", "watchfiles", "xml", "zipfile",
    "microkernel.cli", "microkernel.hosts.process", "microkernel.hosts.thread", "microkernel.hosts.wasm",
    "microkernel.messages", "microkernel.plugins", "microkernel.sdk.runtime", "microkernel.worker",
})  # fmt: skip
# ``import microkernel`` alone loads only this of the package, whatever is used of it later.
ALONE = ["microkernel", "microkernel.errors"]
STARTED = """
with microkernel.Kernel() as kernel:
    if kernel.call("kernel.list"): raise AssertionError
    kernel.on("started", print)
    kernel.emit("stopped")
"""


def loaded(program: str) -> list[str]:
    """Return the modules that a program has loaded at its end, in a fresh interpreter without site packages' hooks."""
    code = f"import sys; before = set(sys.modules)\n{program}\nprint(*sorted(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout.split()


def test_the_package_alone_is_two_modules() -> None:
    modules = loaded("import microkernel")
    assert [name for name in modules if name.startswith("microkernel")] == ALONE
    assert not {"msgspec", "logging", "threading"} & {*modules}


@pytest.mark.parametrize("program", ["import microkernel; microkernel.Kernel", f"import microkernel\n{STARTED}"])
def test_a_kernel_without_plugins_loads_nothing_slow(program: str) -> None:
    assert not NEEDED_LATER & {*loaded(program)}


def test_these_modules_are_noticed() -> None:
    assert {"asyncio", "ssl"} <= NEEDED_LATER & {*loaded("import asyncio")}
