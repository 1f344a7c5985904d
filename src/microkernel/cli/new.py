"""`mk new`: write one plugin file that runs and explains itself, and show what to try with it."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from rich.text import Text

from microkernel.cli.output import Output
from microkernel.cli.settings import FOLDER
from microkernel.errors import ConfigError, KernelError
from microkernel.loader.manifests import check_name
from microkernel.plugins.console import view


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


def show_created(path: Path, name: str, folder: str, output: Output) -> None:
    """Print where the plugin is, and the commands that run it, call it, show it and reload it."""
    where = "" if folder == FOLDER else f" {folder}"
    mk = os.environ.get("MK_COMMAND", "mk")
    tried = [f"{mk} {rest}" for rest in (f"run{where}", f"call {name}.greet you", f"info {name}", f"reload {name}")]
    output.show([view.line("success", str(path), output.translator.word("new.written"))])
    output.show([Text(f"  {command:<{max(map(len, tried))}}   {output.translator.word(f'new.try{number}')}")
                 for number, command in enumerate(tried, 1)])  # fmt: skip
