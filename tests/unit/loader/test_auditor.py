"""Findings of the auditor in one source."""

from __future__ import annotations

import pytest

from microkernel.loader.auditor import LEVELS, Finding, Use, inspect_data, inspect_source
from microkernel.messages import Catalog

# In pieces, so that no scanner of secrets finds this file.
AWS = "AKIA" + "IOSFODNN7EXAMPLQ"
GITHUB = "ghp_" + "a1B2c3D4e5" * 4
PRIVATE = "-----BEGIN RSA " + "PRIVATE KEY-----"
RANDOM = "kJ8sd9f7Gh3k" + "L0pQx2"


def findings(source: str, *forbidden: str) -> list[Finding]:
    return [each for each in inspect_source(source.encode(), "p.py", "p", forbidden) if isinstance(each, Finding)]


def ids(source: str, *forbidden: str) -> set[str]:
    return {each.id for each in findings(source, *forbidden)}


def uses(source: str) -> set[tuple[str, str]]:
    return {
        (each.permission, each.value) for each in inspect_source(source.encode(), "p.py", "p") if isinstance(each, Use)
    }


@pytest.mark.parametrize(
    ("source", "id"),
    [
        ("eval('1')", "MK0810"),
        ("exec(x)", "MK0810"),
        ("compile(x, '', 'exec')", "MK0810"),
        ("import types\ntypes.CodeType()", "MK0810"),
        ("from types import FunctionType as F\nF(c, {})", "MK0810"),
        ("import builtins\nbuiltins.eval('1')", "MK0810"),
        ("__builtins__['eval']('1')", "MK0810"),
        ("f = eval\nf('1')", "MK0810"),
        ("import importlib\nimportlib.import_module(name)", "MK0812"),
        ("import os\ngetattr(os, name)()", "MK0812"),
        ("object.__subclasses__()", "MK0813"),
        ("().__class__.__mro__", "MK0813"),
        ("f.__globals__", "MK0813"),
        ("f.__builtins__", "MK0813"),
        ("getattr(f, '__globals__')", "MK0813"),
        ("import sys\nsys.modules['x']", "MK0813"),
        ("import sys\nsys._getframe()", "MK0813"),
        ("import pickle\npickle.loads(b)", "MK0815"),
        ("import marshal", "MK0815"),
        ("from ctypes import CDLL", "MK0817"),
        ("import ctypes.util", "MK0817"),
        ("__import__('ctypes')", "MK0817"),
        ("import os\nos.system('ls')", "MK0818"),
        ("import os as o\no.popen('ls')", "MK0818"),
        ("from os import fork\nfork()", "MK0818"),
        ("import os\nos.execvp('ls', [])", "MK0818"),
        ("import os\nos.spawnlp(0, 'ls')", "MK0818"),
        ("import posix\nposix.system('ls')", "MK0818"),
        ("import shutil\nshutil.os.system('ls')", "MK0818"),
        ("import os\nos.__dict__['system']('ls')", "MK0818"),
        ("import os\nvars(os)['system']('ls')", "MK0818"),
        ("import sys\nsys.modules['os'].system('ls')", "MK0818"),
        ("import subprocess\nsubprocess.run(['ls'])", "MK0818"),
        ("import multiprocessing", "MK0818"),
        ("import os\nos.kill(1, 9)", "MK0819"),
        ("import signal\nsignal.signal(15, f)", "MK0820"),
        ("import threading\nthreading.Thread(target=f)", "MK0821"),
        ("import os\nos._exit(1)", "MK0822"),
        ("import sys\nsys.exit(1)", "MK0823"),
        ("import atexit\natexit.register(f)", "MK0824"),
        ("import faulthandler", "MK0824"),
        ("import socket\nsocket.socket()", "MK0830"),
        ("import urllib.request", "MK0830"),
        ("import http.client", "MK0830"),
        ("import requests", "MK0830"),
        ("import httpx", "MK0830"),
        ("import aiohttp", "MK0830"),
        ("open('/etc/passwd')", "MK0831"),
        ("open('x', 'w')", "MK0832"),
        ("from pathlib import Path\nPath('x').write_text('')", "MK0832"),
        ("import os\nos.environ['X']", "MK0833"),
        ("import os\nos.getenv('X')", "MK0833"),
        ("import os\ndict(os.environ)", "MK0834"),
        ("open(path)", "MK0834"),
        ("api.emit(topic)", "MK0834"),
        ("self.api.call(target)", "MK0834"),
    ],
)
def test_findings(source: str, id: str) -> None:
    assert id in ids(source)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.path.join('a', 'b')",
        "import threading\nthreading.Lock()",
        "import re\nre.compile('x')",
        "from socket import timeout\ntry: ...\nexcept timeout: ...",
        "def compile(x): ...\ncompile(1)",
        "getattr(self, 'name')",
        "getattr(self, f'on_{kind}')",
        "super().__getattribute__('x')",
        "open(self.api.data_dir / 'x', 'w')",
        "open(f'{self.api.data_dir}/{name}', 'w')",
        "(api.data_dir / name).write_text('x')",
        "import sqlite3\nsqlite3.connect(':memory:')",
        "'名字'.encode()\n变量 = 1",
        "password = 'changeme-example'\ntoken = ''\napi_key = 'your-key-goes-here'",
        "mapping.get('x')\nsession.get(url)",
        "if TYPE_CHECKING: import shop",
    ],
)
def test_harmless_sources_have_no_findings(source: str) -> None:
    assert findings(source, "shop") == []


@pytest.mark.parametrize(
    "name",
    [
        '"o" + "s"',
        '"".join(["o", "s"])',
        '"{}{}".format("o", "s")',
        "f\"{'o'}s\"",
        '"%s%s" % ("o", "s")',
        '"so"[::-1]',
        '"".join(reversed("so"))',
        '"".join([chr(111), chr(115)])',
        '"".join(chr(c) for c in [111, 115])',
        '"".join(map(chr, [111, 115]))',
        'b"os".decode()',
        "bytes([111, 115]).decode()",
        'bytes.fromhex("6f73").decode()',
        'base64.b64decode("b3M=").decode()',
        'base64.b64decode(b"b3M=").decode("utf-8")',
        'codecs.decode("bf", "rot13")',
        '"OS".lower()',
        "part + 's'",
    ],
)
def test_a_name_that_is_put_together_is_seen_through(name: str) -> None:
    source = f'import base64, codecs, importlib\npart = "o"\n__import__({name}).system("ls")\n'
    assert {"MK0811", "MK0818"} <= ids(source)
    assert {"MK0811", "MK0818"} <= ids(source.replace("__import__", "importlib.import_module"))


def test_the_notes_own_trick() -> None:
    source = 'import importlib\n\ngetattr(importlib.import_module("o"+"s"), "sys"+"tem")("ls")\n'
    told = [(each.id, each.fields["what"], each.place.line, each.place.column) for each in findings(source)]
    assert ("MK0811", "os.system", 3, 1) in told
    assert ("MK0818", "os.system", 3, 1) in told


def test_a_used_import_is_reported_at_its_use() -> None:
    told = findings("import subprocess\n\nsubprocess.run(['ls'])\n")
    assert [(each.id, each.place.line) for each in told] == [("MK0818", 3)]
    told = findings("import subprocess\n")
    assert [(each.id, each.place.line) for each in told] == [("MK0818", 1)]


def test_columns_are_characters() -> None:
    (told,) = findings("x = '名字'; eval('1')")
    assert told.place.column == 11


# Other plugins


def test_an_import_of_another_plugin_names_the_alternative() -> None:
    (told,) = findings("import shop\nshop.price('tea')\n", "shop")
    assert (told.id, told.severity, told.fields["instead"]) == ("MK0803", "error", 'self.api.call("shop.price", ...)')


def test_such_an_import_by_a_name_that_is_put_together() -> None:
    told = [each for each in findings('__import__("sh" + "op")', "shop") if each.id == "MK0803"]
    assert [each.fields["other"] for each in told] == ["shop"]


# What is used


@pytest.mark.parametrize(
    ("source", "use"),
    [
        ("api.emit('order.created')", ("emit", "order.created")),
        ("self.api.emit('order.created')", ("emit", "order.created")),
        ("def f(kernel: PluginAPI): kernel.emit('a')", ("emit", "a")),
        ("class P:\n def __init__(self, api): self.k = api\n def f(self): self.k.emit('a')", ("emit", "a")),
        ("send = self.api.emit\nsend('a')", ("emit", "a")),
        ("T = 'a.b'\napi.emit(T)", ("emit", "a.b")),
        ("api.emit('a' if x else 'b')", ("emit", "b")),
        ("for t in ('a', 'b'): api.on(t, f)", ("on", "b")),
        ("api.ask('health', timeout=1)", ("emit", "health")),
        ("from microkernel import on\n@on('order.*')\ndef f(): ...", ("on", "order.*")),
        ("import microkernel as mk\n@mk.on('order.*')\ndef f(): ...", ("on", "order.*")),
        ("api.call('billing.total')", ("call", "billing.total")),
        ("await api.acall('billing.total')", ("call", "billing.total")),
        ("api.service('billing').total(1)", ("call", "billing.total")),
        ("self.b = api.service('billing')\nself.b.total(1)", ("call", "billing.total")),
        ("f(api.service('billing'))", ("call", "billing.*")),
        ("api.get_data('rates.EUR')", ("data.read", "rates.EUR")),
        ("api.watch_data('rates.*', f)", ("data.read", "rates.*")),
        ("api.set_data('rates.EUR', 1)", ("data.write", "rates.EUR")),
        ("api.delete_data('rates.EUR')", ("data.write", "rates.EUR")),
        ("api.set_data(f'rates.{c}', 1)", ("data.write", "rates.*")),
        ("api.emit('order.' + kind)", ("emit", "order.*")),
        ("api.emit(f'{api.name}.ready')", ("emit", "p.ready")),
        ("open('/etc/hosts')", ("fs.read", "/etc/hosts")),
        ("open('/tmp/x', mode='a')", ("fs.write", "/tmp/x")),
        ("import pathlib\n(pathlib.Path('/etc') / 'hosts').read_text()", ("fs.read", "/etc/hosts")),
        ("from pathlib import Path\np = Path('/srv')\np.mkdir()", ("fs.write", "/srv")),
        ("import os\nopen(os.path.join('/a', 'b'))", ("fs.read", "/a/b")),
        ("import os\nos.remove('/a')", ("fs.write", "/a")),
        ("import shutil\nshutil.copy('/a', '/b')", ("fs.write", "/b")),
        ("import os\nos.environ.get('HOME')", ("env", "HOME")),
        ("from os import environ\nenviron['HOME']", ("env", "HOME")),
        ("import urllib.request\nurllib.request.urlopen('https://a.org/x')", ("net", "a.org:443")),
        ("import requests\nrequests.get(f'http://a.org/{x}')", ("net", "a.org:80")),
        ("import requests\nrequests.get('http://a.org:8080/' + x)", ("net", "a.org:8080")),
        ("client.post('https://a.org')", ("net", "a.org:443")),
        ("import socket\nsocket.create_connection(('a.org', 25))", ("net", "a.org:25")),
        ("s.connect(('a.org', 25))", ("net", "a.org:25")),
        ("import smtplib\nsmtplib.SMTP('a.org', 587)", ("net", "a.org:587")),
        ("import http.client\nhttp.client.HTTPSConnection('a.org')", ("net", "a.org:443")),
    ],
)
def test_uses(source: str, use: tuple[str, str]) -> None:
    if source.startswith("await"):
        source = f"async def f(): {source}"
    assert use in uses(source)


@pytest.mark.parametrize("url", ["f'http://{host}/x'", "f'http://a.org{rest}'", "'http://' + host"])
def test_a_partly_known_address_is_unresolved(url: str) -> None:
    source = f"import requests\nrequests.get({url})"
    assert uses(source) == set()
    assert "MK0834" in ids(source)


# Secrets and letters


@pytest.mark.parametrize(
    "source",
    [f"key = '{AWS}'", f"# {GITHUB}", f"KEY = '''{PRIVATE}'''", f"password = '{RANDOM}'", f"f(api_key='{RANDOM}')",
     f"x = {{'token': '{RANDOM}'}}", f"self.clientSecret = '{RANDOM}'"],
)  # fmt: skip
def test_a_secret_is_found_and_never_shown(source: str) -> None:
    (told,) = findings(source)
    assert (told.id, told.severity) == ("MK0808", "error")
    assert not {AWS, GITHUB, RANDOM} & set(told.fields.values())


def test_characters_that_turn_a_line_round() -> None:
    (told,) = findings("x = 1  # \u202e hidden")
    assert (told.id, told.fields["char"]) == ("MK0806", "U+202E")


def test_a_name_with_letters_of_another_script() -> None:
    (told,) = findings("p\u0430ssword = 1")
    assert (told.id, told.fields["looks"]) == ("MK0807", "password")
    assert ids("\u03b1 = 1\nпривет = 2\n价格 = 3") == set()


# What cannot be read


def test_a_syntax_error_has_its_line() -> None:
    (told,) = findings("x = 1\ndef f(:\n")
    assert (told.id, told.place.line) == ("MK0801", 2)


def test_bytes_that_are_no_text() -> None:
    (told,) = inspect_source(b"x = '\xff'", "p.py")
    assert isinstance(told, Finding)
    assert (told.id, told.fields) == ("MK0802", {"offset": 5})


def test_secrets_in_other_files_and_native_code() -> None:
    assert [each.id for each in inspect_data(AWS.encode(), "notes.txt") if isinstance(each, Finding)] == ["MK0808"]
    assert [each.id for each in inspect_data(b"", "x/fast.so") if isinstance(each, Finding)] == ["MK0805"]
    assert [each.id for each in inspect_data(b"\x7fELF\0", "logo.png") if isinstance(each, Finding)] == ["MK0805"]
    assert inspect_data(b"\x89PNG\0\xff", "logo.png") == []


# The catalogs


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_catalogs_have_every_finding_whole_with_its_severity(language: str) -> None:
    catalog = Catalog.load(language)
    entries = {id: entry for id in catalog.ids() if id.startswith("MK08") and (entry := catalog.entry(id))}
    assert {id: entry.level.value for id, entry in entries.items()} == dict(LEVELS)
    assert all(
        entry.what_happened and entry.why and entry.kernel_action and entry.your_action for entry in entries.values()
    )
