"""The standard library in a guest, and installed packages: as modules, as files, and imported repeatedly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from microkernel.guest.stdlib_modules import MODULES
from tests.integration.wasm.conftest import Run, do

EACH = """
import importlib, sys
MODULES = {modules}
failed = {{}}
for name in MODULES:
    before = sys.modules.copy()
    try:
        {attempt}
    except Exception as error:
        failed[name] = repr(error)
    sys.modules.clear()
    sys.modules.update(before)
result = failed
"""
# A builtin module has no source file; all others must have one.
BUILTIN = {"sys", "time", "math", "gc", "itertools", "array", "binascii", "cmath", "errno", "unicodedata", "zlib"}
PURE = [name for name in MODULES if name not in BUILTIN]


def test_the_documented_library_exists(run: Run) -> None:
    kernel = run()
    assert do(kernel, EACH.format(modules=MODULES, attempt="importlib.import_module(name)")) == {}
    assert do(kernel, "from datetime import datetime\nresult = datetime.strptime('2026', '%Y').year") == 2026
    pack = "import zipfile\nwith zipfile.ZipFile('z', 'w') as file: file.writestr('x', 'y')\n"
    assert do(kernel, pack + "result = zipfile.ZipFile('z').read('x')") == b"y"
    assert do(kernel, "import zlib, hashlib\nresult = hashlib.sha256(zlib.compress(b'x')).hexdigest()[:0]") == ""


def test_each_module_can_be_imported_again(run: Run) -> None:
    """With all its submodules, as a program does that wants a fresh import."""
    again = """
        for each in [each for each in sys.modules if f"{each}.".startswith(f"{name}.")]: del sys.modules[each]
        importlib.import_module(name)
"""
    modules = [name for name in MODULES if name not in ("sys", "collections.abc")]
    kernel = run()
    assert do(kernel, EACH.format(modules=modules, attempt=again.strip())) == {}
    modules = [name for name in PURE if name != "enum"]  # whose flags, of which others have made theirs, it replaces
    assert do(kernel, EACH.format(modules=modules, attempt="importlib.reload(importlib.import_module(name))")) == {}
    assert do(kernel, "result = api.generation") == 1


def test_each_module_has_its_source(run: Run) -> None:
    source = "import inspect; assert len(inspect.getsource(importlib.import_module(name))) > 10"
    assert do(run(), EACH.format(modules=[n for n in PURE if n != "html.entities"], attempt=source)) == {}


MECHANISMS: dict[str, tuple[str, Any]] = {
    "what was taken out of sys.modules": (
        """
del sys.modules['json']; import json
result = json.dumps([1])
""",
        "[1]",
    ),
    "reload": (
        """
import importlib, json
result = importlib.reload(json).loads('[1]')
""",
        [1],
    ),
    "the source of a function": (
        """
import inspect, json
result = inspect.getsource(json.dumps)[:9]
""",
        "def dumps",
    ),
    "of one that is frozen in": (
        """
import inspect
result = inspect.getsource(os.path.join)[:8]
""",
        "def join",
    ),
    "of one of ours": (
        """
import inspect, microkernel
result = inspect.getsource(microkernel.IPlugin)[:13]
""",
        "class IPlugin",
    ),
    "modules listed": (
        """
import pkgutil; found = {m.name for m in pkgutil.iter_modules()}
result = found >= {'json', 'abc', 'netrc'}
""",
        True,
    ),
    "modules of a package": (
        """
import pkgutil, json
result = sorted(m.name for m in pkgutil.iter_modules(json.__path__))[:2]
""",
        ["__main__", "decoder"],
    ),
    "a file": (
        """
import json
result = open(json.__file__).readline()[:6]
""",
        'r"""JS',
    ),
    "a file of one that is frozen in": (
        """
result = 'def walk(' in open(os.__file__).read()
""",
        True,
    ),
    "files of a package": (
        """
from importlib.resources import files
result = 'encoder.py' in [p.name for p in files('json').iterdir()]
""",
        True,
    ),
    "data of a package": (
        """
import pkgutil
result = pkgutil.get_data('json', '__init__.py')[:6]
""",
        b'r"""JS',
    ),
    "what was not loaded ahead": (
        """
import logging.config, netrc, xml.dom.minidom, unittest, doctest, tarfile, sysconfig, wsgiref, smtplib
logging.config.dictConfig({'version': 1})
result = netrc.netrc.__name__
""",
        "netrc",
    ),
    "another module of a package": (
        """
import encodings.cp037
result = 'a'.encode('cp037')
""",
        b"\x81",
    ),
    "a traceback's lines": (
        """
import json, traceback
try: json.loads('{')
except ValueError: result = 'return _default_decoder.decode(s)' in traceback.format_exc()
""",
        True,
    ),
    "threads are refused also then": (
        """
import importlib, threading
importlib.reload(threading)
try: threading.Thread(target=print).start()
except RuntimeError as error: result = 'use async def' in str(error)
""",
        True,
    ),
    "and event loops run": (
        """
for name in [name for name in sys.modules if name.split('.')[0] == 'asyncio']: del sys.modules[name]
import asyncio
async def main(): await asyncio.sleep(0); return 7
result = asyncio.run(main())
""",
        7,
    ),
    "and sockets are its own": (
        """
import importlib, socket
importlib.reload(socket)
del sys.modules['socket'], sys.modules['_socket']
import socket
try: socket.create_connection(('h', 1))
except PermissionError as error: result = 'MK0401' in str(error)
""",
        True,
    ),
    "and TLS is": (
        """
import importlib, ssl
importlib.reload(ssl)
del sys.modules['ssl']
import ssl
context = ssl.create_default_context()
result = [ssl.OPENSSL_VERSION.split()[0], ssl.OPENSSL_VERSION_INFO[0] >= 1, context.verify_mode]
""",
        ["OpenSSL", True, 2],
    ),
    "numbers of C": (
        """
from ctypes import c_int, c_long, c_ubyte, sizeof, Structure, POINTER
class Point(Structure): _fields_ = [('x', c_int)]
result = [sizeof(c_long), c_int(2**31).value, c_ubyte(-1).value, bool(c_int()), POINTER(Point).__name__]
""",
        [4, -2147483648, 255, False, "LP_Point"],
    ),
    "no library in C": (
        """
import ctypes, ctypes.util
try: ctypes.CDLL(ctypes.util.find_library('c'))
except OSError as error: result = 'no libraries in C' in str(error)
""",
        True,
    ),
    "a database": (
        """
import sqlite3
with sqlite3.connect('x.db') as db:
    db.execute('create table t(a)')
    db.execute('insert into t values (7)')
result = sqlite3.connect('x.db').execute('select a from t').fetchall()
""",
        [[7]],
    ),
    "an archive, where bzip2 is tried too": (
        """
import tarfile
open('f', 'w').write('x')
for mode in ('w', 'w:gz'):
    with tarfile.open('t', mode) as tar: tar.add('f')
    result = tarfile.open('t').getnames()
""",
        ["f"],
    ),
    "and bzip2 is refused by name": (
        """
import bz2
try: bz2.compress(b'x')
except OSError as error: result = 'no bzip2' in str(error)
""",
        True,
    ),
}


def test_common_uses_of_the_library_work(run: Run) -> None:
    kernel = run()
    found = {what: do(kernel, code) for what, (code, _) in MECHANISMS.items()}
    assert found == {what: result for what, (_, result) in MECHANISMS.items()}
    assert do(kernel, "result = api.generation") == 1


@pytest.mark.parametrize("path", ["/python/json/__init__.py", "/0/microkernel/errors.py", "/python/new.py"])
def test_the_library_cannot_be_written(path: str, run: Run) -> None:
    assert do(run(), f"open('{path}', 'w')")[0] == "PermissionError"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install ``greetings`` 1.5 where only this program looks."""
    folder = tmp_path / "installed"
    code = folder / "greetings"
    info = folder / "greetings-1.5.dist-info"
    for each in (code, info):
        each.mkdir(parents=True)
    (code / "__init__.py").write_text("def hello(): return 'hello'\n")
    (code / "words.txt").write_text("good morning")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greetings\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[greeters]\nplain = greetings:hello\n")
    (info / "RECORD").write_text("greetings/__init__.py,,\ngreetings/words.txt,,\n")
    monkeypatch.syspath_prepend(folder)
    return folder


DEPENDS = 'dependencies = ["greetings"]'


def test_an_installed_package_is_found_with_its_metadata(run: Run, package: Path) -> None:
    kernel = run(DEPENDS)
    about = """
import importlib.metadata as m, importlib.resources, pkgutil, greetings
[entry] = m.entry_points(group='greeters')
words = importlib.resources.files('greetings').joinpath('words.txt').read_text()
result = [m.version('greetings'), m.metadata('greetings')['Name'], entry.load()(), words,
          [str(f) for f in m.files('greetings')], pkgutil.get_data('greetings', 'words.txt')]
"""
    files = ["greetings/__init__.py", "greetings/words.txt"]
    assert do(kernel, about) == ["1.5", "greetings", "hello", "good morning", files, b"good morning"]
    missing = "import importlib.metadata as m; m.version('no-such-package')"
    assert do(kernel, missing) == ["PackageNotFoundError", "No package metadata was found for no-such-package"]


def test_an_editable_install_is_followed_to_its_source(run: Run, package: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (package / "greetings").rename(source / "greetings")
    (package / "greetings.pth").write_text(f"{source}\n")
    (package / "greetings-1.5.dist-info" / "RECORD").write_text("greetings.pth,,\n")
    assert do(run(DEPENDS), "import greetings; result = greetings.hello()") == "hello"


def test_bytecode_of_a_package_is_cached_in_the_data_folder(run: Run, package: Path, tmp_path: Path) -> None:
    kernel = run(DEPENDS)
    look = "import greetings; result = greetings.hello()"
    assert do(kernel, look) == "hello"
    [kept] = (tmp_path / "data" / "p").rglob("*.pyc")
    assert kept.name.startswith("__init__.cpython-")
    assert not [*package.rglob("*.pyc")]
    at = kept.stat().st_mtime_ns
    kernel.reload("p")
    assert do(kernel, look) == "hello"
    assert kept.stat().st_mtime_ns == at, "it was compiled once"
    (package / "greetings" / "__init__.py").write_text("def hello(): return 'good evening'\n")
    kernel.reload("p")
    assert do(kernel, look) == "good evening"


def test_packages_that_a_plugin_depends_on_are_available(run: Run) -> None:
    kernel = run('dependencies = ["iniconfig"]')
    assert do(kernel, "import iniconfig\nresult = iniconfig.__name__") == "iniconfig"
    assert do(run(), "import iniconfig")[0] == "ModuleNotFoundError"
