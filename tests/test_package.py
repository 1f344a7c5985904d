"""What the package says of itself where it is published, and that others' pytest plugins do not stop these tests."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.pypi_readme import absolute

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_each_link_of_the_published_readme_is_absolute_and_leads_to_a_file() -> None:
    repository, version = PROJECT["urls"]["Source"], PROJECT["version"]
    published = absolute((ROOT / "README.md").read_text(encoding="utf-8"), repository, version)
    targets = re.findall(r"\]\(([^)]*)\)", published)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    ours = [target.removeprefix(f"{repository}/") for target in targets if target.startswith(f"{repository}/")]
    assert len(ours) > 10
    for path in ours:
        kind, at, file = path.split("/", 2)
        assert (kind in ("blob", "raw"), at) == (True, f"v{version}")
        assert (ROOT / file.partition("#")[0]).exists(), file
    picture = f"{repository}/raw/v{version}/docs/bench.png"
    assert f"![Each row: this project, the floor and its peers]({picture})" in published


def test_links_into_the_page_and_to_elsewhere_stay_as_they_are() -> None:
    text = "[a](#levels) [b](https://example.com/x) ![c](d.png) [e](docs/f.md#g)"
    assert absolute(text, "https://r", "1.0") == (
        "[a](#levels) [b](https://example.com/x) ![c](https://r/raw/v1.0/d.png) [e](https://r/blob/v1.0/docs/f.md#g)"
    )


def test_the_repository_is_named_in_one_place() -> None:
    assert "readme" in PROJECT["dynamic"]
    assert {url.partition("/blob/")[0] for url in PROJECT["urls"].values()} == {PROJECT["urls"]["Source"]}


NOISY = """
import warnings
import pytest

def pytest_configure(config):
    warnings.warn("an old plugin is configured", DeprecationWarning)

def pytest_collection_modifyitems(items):
    warnings.warn("and collects", pytest.PytestDeprecationWarning)

@pytest.fixture(autouse=True)
def everywhere():
    warnings.warn("and runs", DeprecationWarning)
    yield
"""


def run_pytest(folder: Path, test: str) -> str:
    """What pytest prints of one test, with our settings and a plugin of somebody else's."""
    (folder / "noisy_plugin.py").write_text(NOISY)
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    (folder / "tests" / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text("\n    ".join(["[pytest]\nfilterwarnings =", *FILTERS]))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "noisy_plugin", "tests"]
    environment = {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


FILTERS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"][
    "filterwarnings"
]


def test_a_warning_of_anothers_pytest_plugin_stops_nothing(tmp_path: Path) -> None:
    assert "1 passed" in run_pytest(tmp_path, "def test_it(): pass\n")


def test_a_warning_of_ours_is_an_error(tmp_path: Path) -> None:
    test = "import warnings\ndef test_it(): warnings.warn('ours', DeprecationWarning)\n"
    assert "1 failed" in run_pytest(tmp_path, test)


def test_what_is_left_open_is_an_error(tmp_path: Path) -> None:
    test = "import gc\ndef test_it():\n    open(__file__)\n    gc.collect()\n"
    assert "1 failed" in run_pytest(tmp_path, test)
