"""The import contracts hold, refuse forbidden imports, and cover every package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from grimp import ImportGraph

from tools.floors import CircleContract, FloorContract
from tools.import_graph import build, circles_of, drawing, layers_of, modules_of, packages_of

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "microkernel"
ALL_CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
CONTRACTS = [contract for contract in ALL_CONTRACTS if contract["type"] == "floor"]


REFUSED = [
    ("errors", "messages"),
    ("messages", "wire.codec"),
    ("wire.frames", "sdk.event"),
    ("wire.frames", "msgspec"),
    ("wire.codec", "requests"),
    ("sdk.api", "msgspec"),
    ("sdk.api", "kernel.ports"),
    ("sdk.api", "microkernel"),
    ("guest.codec", "msgspec"),
    ("guest.guest_channel", "kernel.ports"),
    ("kernel.routing.call_router", "hosts.thread"),
    ("kernel.routing.call_router", "sdk.event"),
    ("kernel.routing.call_router", "packaging.version"),
    ("kernel.kernel", "loader"),
    ("kernel.kernel", "app"),
    ("worker.main", "kernel.ports"),
    ("worker.main", "messages"),
    ("worker.main", "msgspec"),
    ("loader.discovery", "kernel.registry.record"),
    ("loader.discovery", "wire.codec"),
    ("hosts.process", "sdk.runtime.runtime"),
    ("hosts.sandbox", "hosts.process"),
    ("hosts.process", "kernel.kernel"),
    ("hosts.process", "worker.main"),
    ("plugins.console", "kernel.kernel"),
    ("plugins.console", "wire.codec"),
    ("plugins.console", "app"),
    ("plugins.console.view", "plugins.watcher"),
    ("plugins.watcher", "rich"),
    ("plugins.console", "typer"),
    ("control.server", "app"),
    ("control.client", "messages"),
    ("control.remote_client", "plugins.console"),
    ("kernel.kernel", "control.server"),
    ("plugins.console", "messages"),
    ("app", "cli"),
    ("app", "plugins.console"),
    ("app", "rich"),
    ("microkernel", "cli"),
    ("microkernel", "kernel.kernel"),
]
ALLOWED = [
    ("wire.codec", "msgspec"),
    ("wire.session", "wire.messages"),
    ("wire.session", "collections"),
    ("sdk.runtime.runtime", "wire.session"),
    ("guest.codec", "guest.packing"),
    ("guest.codec", "errors"),
    ("kernel.manifest", "__future__"),
    ("kernel.requirements", "packaging.specifiers"),
    ("kernel.supervision.supervisor", "messages.catalog"),
    ("worker.main", "sdk.runtime.runtime"),
    ("loader", "kernel.ports"),
    ("hosts.thread", "sdk.runtime.runtime"),
    ("hosts.sandbox", "hosts.worker.kernel_channel"),
    ("plugins.console", "microkernel"),
    ("plugins.console.view", "plugins.console.commands"),
    ("plugins.console.view", "rich"),
    ("app", "hosts.thread"),
    ("cli", "cli.output"),
    ("cli.attach", "plugins.console"),
    ("cli.attach", "control.remote_client"),
    ("control.server", "kernel.kernel"),
    ("control.client", "sdk.client"),
    ("microkernel", "app"),
]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as m; m()", "--no-cache"]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def broken_by(importer: str, imported: str) -> list[str]:
    """Return the contracts that refuse a project with this one import."""
    graph = ImportGraph()
    graph.add_module(importer)
    graph.add_module(imported)
    graph.add_import(importer=importer, imported=imported, line_number=1, line_contents="import ...")
    kept = {c["floor"]: _contract(c).check(graph, verbose=False).kept for c in CONTRACTS}
    return [floor for floor, is_kept in kept.items() if not is_kept]


def _contract(options: dict[str, Any]) -> FloorContract:
    texts = {k: str(v) if isinstance(v, bool) else v for k, v in options.items()}  # as import-linter reads TOML
    return FloorContract(options["name"], session_options={}, contract_options=texts)


def test_the_project_keeps_its_contracts() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_forbidden_import_fails_and_is_located(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "microkernel", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    stray = tmp_path / "microkernel" / "wire" / "stray.py"
    stray.write_text("def later():\n    from microkernel.kernel import ports\n    return ports\n", encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert "microkernel.wire.stray -> microkernel.kernel.ports (l.2)" in result.stdout


def test_every_package_has_a_contract() -> None:
    packages = {
        f"microkernel.{entry.stem}"
        for entry in PACKAGE.iterdir()
        if (entry.suffix == ".py" and entry.stem != "__init__") or any(entry.glob("*.py"))
    }
    assert packages <= {c["floor"] for c in CONTRACTS}, "a package without a contract in pyproject.toml"


@pytest.mark.parametrize(("importer", "imported"), REFUSED)
def test_refused(importer: str, imported: str) -> None:
    assert broken_by(_full(importer), _full(imported)) == [_floor(importer)]


@pytest.mark.parametrize(("importer", "imported"), ALLOWED)
def test_allowed(importer: str, imported: str) -> None:
    assert broken_by(_full(importer), _full(imported)) == []


@pytest.mark.parametrize("name", sorted({name for pair in (*REFUSED, *ALLOWED) for name in pair}))
def test_the_modules_named_here_exist(name: str) -> None:
    full = _full(name)
    path = PACKAGE.parent / full.replace(".", "/")
    assert not full.startswith("microkernel.") or path.is_dir() or path.with_suffix(".py").is_file()


def _full(name: str) -> str:
    """Return the full name of one of our modules; leave a name such as ``msgspec`` as it is."""
    ours = {c["floor"].removeprefix("microkernel.") for c in CONTRACTS}
    return f"microkernel.{name}" if name != "microkernel" and name.partition(".")[0] in ours else name


def _floor(name: str) -> str:
    return ".".join(_full(name).split(".")[:2])


def test_a_circle_of_type_only_imports_is_found() -> None:
    graph = ImportGraph()
    for number in range(3):
        graph.add_module(f"microkernel.kernel.{'abc'[number]}.m")
    for importer, imported in ("ab", "bc", "ca"):
        graph.add_import(
            importer=f"microkernel.kernel.{importer}.m", imported=f"microkernel.kernel.{imported}.m",
            line_number=1, line_contents="from x import y",
        )  # fmt: skip
    contract = CircleContract("", session_options={}, contract_options={"packages": ["microkernel.kernel"]})
    check = contract.check(graph, verbose=False)
    assert not check.kept
    members = [f"microkernel.kernel.{name}.m" for name in "abc"]
    assert check.metadata["circles"] == [members, ["a", "b", "c"]]


def test_packages_that_know_each_other_by_different_modules_are_a_circle() -> None:
    imports = {"k.a.x": {"k.b.x"}, "k.b.x": set(), "k.b.y": {"k.a.y"}, "k.a.y": set()}
    assert circles_of(imports) == []
    assert circles_of(packages_of(imports, "k")) == [["a", "b"]]


def test_a_long_chain_is_no_circle_and_has_a_layer_each() -> None:
    imports = {f"m{n}": {f"m{n + 1}"} if n < 4999 else set() for n in range(5000)}
    assert circles_of(imports) == []
    assert len(layers_of(imports)) == 5000


@pytest.mark.parametrize(
    ("importer", "imported", "line"),
    [
        (
            "registry/record.py",
            "microkernel.kernel.routing.call_table",
            "registry.record -> microkernel.kernel.routing",
        ),
        ("messaging/delivery.py", "microkernel.kernel.runtime.reactor", "messaging.delivery -> microkernel.kernel.r"),
    ],
)
def test_an_import_upwards_or_beside_in_the_kernel_is_red(
    tmp_path: Path, importer: str, imported: str, line: str
) -> None:
    """Also if it is there for types alone. Without layers, the second would be no circle."""
    shutil.copytree(PACKAGE, tmp_path / "microkernel", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    module = tmp_path / "microkernel" / "kernel" / importer
    guarded = f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {imported}\n"
    module.write_text(module.read_text(encoding="utf-8") + guarded, encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert line in result.stdout


def test_the_listing_of_the_design_has_the_layers_of_the_kernel() -> None:
    """``python -m tools.import_graph`` prints them."""
    packages = packages_of(modules_of(build()))
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert drawing(packages) in design
