"""`mk new`: write one plugin file that runs and explains itself."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from microkernel.errors import ConfigError, KernelError
from microkernel.loader.manifests import check_name


def create(name: str, folder: str, language: str) -> Path:
    """Write ``folder/name.py``. Raises KernelError: MK0708 if it exists, MK0108 for an invalid plugin name."""
    path = Path(folder) / f"{name}.py"
    check_name(name, str(path))
    text = (files(__package__) / f"new_{language}.py.txt").read_text(encoding="utf-8").replace("NAME", name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, text)
    except FileExistsError:
        raise KernelError("MK0708", path=str(path)) from None
    except OSError as error:
        raise ConfigError("MK0706", path=str(path), reason=(error.strerror or str(error)).lower()) from None
    return path


def _write_new(path: Path, text: str) -> None:
    """Write a new file completely or not at all. Raises FileExistsError."""
    file = path.open("x", encoding="utf-8")
    try:
        with file:
            file.write(text)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
