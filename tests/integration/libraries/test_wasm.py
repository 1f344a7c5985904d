"""Widely used libraries in a guest. Not without a request: ``MK_LIBRARIES=folder``; they are installed there once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microkernel import Kernel
from microkernel.kernel.config import KernelConfig
from tests.integration.libraries.wasm_cases import CASES, Case
from tests.integration.wasm.conftest import PLUGIN
from tests.servers import Authority, serving

FOLDER = os.environ.get("MK_LIBRARIES", "")
pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="MK_LIBRARIES=folder installs the libraries there, and tries them"),
    pytest.mark.timeout(900),
]
LIMITS = {"load": 60.0, "handler": 300.0}


@pytest.fixture(scope="module")
def libraries() -> Path:
    folder = Path(FOLDER).resolve()
    done = folder / "wasm.installed"
    packages = sorted({case.package for case in CASES.values()})
    if not done.exists() or done.read_text() != " ".join(packages):
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), *packages], check=True)
        done.write_text(" ".join(packages))
    return folder


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What stands in the braces of cases."""
    authority = Authority(tmp_path_factory.mktemp("servers") / "authority")
    with serving() as port, serving(authority.context("localhost")) as tls:
        yield {"port": port, "tls": tls, "authority": authority.certificate}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_library_works_in_a_guest(
    case: Case, libraries: Path, servers: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(libraries)
    code = case.code
    for name, value in servers.items():
        code = code.replace(f"{{{name}}}", str(value))
    net = [f"127.0.0.1:{servers['port']}", f"localhost:{servers['tls']}"]
    grants = {"net": net, "fs.read": [str(Path(str(servers["authority"])).parent)]}
    (tmp_path / "p.py").write_text(f'# /// script\n# dependencies = ["{case.package}"]\n# ///\n{PLUGIN}')
    config = KernelConfig(data_dir=str(tmp_path / "data"), limits=LIMITS)
    with Kernel(tmp_path / "p.py", config, isolation="wasm", grants={"p": grants}) as kernel:
        assert kernel.call("p.do", code, timeout=300.0) == case.result
        kernel.reload("p")
        assert kernel.call("p.do", code, timeout=300.0) == case.result
