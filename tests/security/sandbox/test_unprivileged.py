"""The same confinement for a kernel that is not root: run these tests again as nobody, with the system's own Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from microkernel.errors import IsolationUnavailable
from tests.guest import lend_guest

PYTHON = "/usr/bin/python3"
NOBODY = 65534
ROOT = Path(__file__).resolve().parents[3]


def _same_version() -> bool:
    try:
        said = subprocess.run([PYTHON, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
    except OSError:
        return False
    return said.stdout.strip() == str(sys.version_info[:2])


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="all tests run unprivileged as it is")
@pytest.mark.skipif(shutil.which("setpriv") is None or not _same_version(), reason="no setpriv, or no other Python")
@pytest.mark.timeout(300)
def test_confinement_works_for_an_unprivileged_kernel(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path("/tmp") / f"microkernel-nobody-{os.getpid()}"
    installed = Path(pytest.__file__).parents[1]
    shutil.copytree(installed, home / "lib", ignore=shutil.ignore_patterns("mypy*", "pip", "pydantic*"))
    for part in ("src", "tests", "tools", "pyproject.toml"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, home / part)
    subprocess.run(["chmod", "-R", "a+rX", home], check=True)
    (home / "own").mkdir()
    os.chown(home / "own", NOBODY, NOBODY)
    with suppress(IsolationUnavailable):  # then the tests at `wasm` are skipped there, too
        lend_guest(home / "own" / ".cache", NOBODY)
    try:
        done = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", PYTHON, "-m", "pytest", "-q",
             "-p", "no:cacheprovider", f"--basetemp={home}/own/pytest",
             "--deselect=tests/security/sandbox/test_seccomp.py", "tests/security/sandbox"],
            cwd=home, capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{home}/src:{home}/lib", "HOME": f"{home}/own", "TMPDIR":
                 f"{home}/own", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    finally:
        shutil.rmtree(home)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
