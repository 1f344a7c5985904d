"""What the hostile plugin does: data. Each is code that runs until ``over()``, with ``frame()`` and ``send()``."""

from __future__ import annotations

import textwrap

from tests.security.attacks.support import manifest

_HEADER = '''
import importlib, os, struct, sys, time
from microkernel import IPlugin, expose
from microkernel.wire.codec import Raw, encode
from microkernel.wire.frames import datagrams
from microkernel.wire.messages import *
from microkernel.wire.session import pack

NUMBERS = iter(range(1000, 1 << 60))


def frame(*what):
    """Send messages as the worker's own code would, without waiting for credit."""
    pieces(pack(what))


def pieces(data):
    for part in datagrams(data): send(part)


def send(data):
    if sys.platform != "wasi":
        os.write(4, data)
    elif not importlib.import_module("wit_world").send(data.decode("latin-1")):
        raise SystemExit("nobody is there")


def watcher(pattern, name):
    number = next(NUMBERS)
    return Subscribe(number, Handler(number, pattern, name, False, "drop_oldest", True))


def handler(pattern, name):
    number = next(NUMBERS)
    return Subscribe(number, Handler(number, pattern, name, False, "drop_oldest"))


class Plugin(IPlugin):
    def __init__(self, api): self.api = api
    def start(self): pass
    def stop(self): pass
    @expose
    def attack(self, how: str, seconds: float) -> str:
        until = time.monotonic() + seconds
        getattr(self, how)(lambda: time.monotonic() >= until)
        return how
'''

ATTACKS = {
    "nothing": """
while not over(): time.sleep(0.05)
""",
    "watchers": """
for start in range(0, 25_000, 500):
    frame(*[watcher("h.key", f"f{start + n}") for n in range(500)])
many = [Data(9, "set", "h.key", Raw(encode(n))) for n in range(4000)]
while not over(): frame(*many)
""",
    "keys": """
for start in range(0, 100_000, 4000):
    frame(*[Data(9, "set", f"h.k{start + n}", Raw(encode(n))) for n in range(4000)])
while not over():
    frame(*[watcher("h.*", f"g{next(NUMBERS)}") for n in range(100)])
""",
    "unsubscribe": """
for start in range(0, 16_000, 4000):
    frame(*[handler(f"h.t{start + n}", f"f{start + n}") for n in range(4000)])
while not over():
    frame(*[Unsubscribe(9, 1_000_000 + n) for n in range(4000)])
""",
    "expose": """
many = [Expose(9, Method(f"m{n}", "x" * 100)) for n in range(30_000)]
while not over():
    for start in range(0, 28_000, 4000): frame(*many[start:start + 4000])
""",
    "shares": """
body = b"\\xdd\\0\\0\\0\\1\\x94\\x1d\\xa1h\\xc0\\xdd" + struct.pack(">I", 8_000_000) + b"\\x91\\0" * 8_000_000
while not over(): pieces(struct.pack(">I", len(body)) + body)
""",
    "amplify": """
body = (b"\\xdd\\0\\0\\0\\1\\x96\\x20\\x14\\xa1x\\xcb" + bytes(8) + b"\\xa1x\\x81\\xa1a\\xdd"
        + struct.pack(">I", 15_000_000) + b"\\x90" * 15_000_000)
while not over(): pieces(struct.pack(">I", len(body)) + body)
""",
    "large": """
while not over(): frame(Emit("h.topic", Raw(encode(bytes(15 << 20)))))
""",
    "strings": """
many = [Log(20, "x" * 4000, 0.0, "notice", {f"f{n}": ["y"] * 900 for n in range(60)}) for _ in range(200)]
while not over(): frame(*many)
""",
    "templates": """
many = [Log(20, "{f}" * 5000, 0.0, "notice", {"f": "z" * 3}) for _ in range(1000)]
while not over(): frame(*many)
""",
    "logs": """
many = [Log(20, "x", 0.0) for n in range(4000)]
while not over(): frame(*many)
""",
    "refused": """
many = [Emit("other.topic", Raw(encode({}))) for n in range(4000)]
while not over(): frame(*many)
""",
    "denied": """
many = [Call(next(NUMBERS), "kernel.list") for n in range(2000)] + [Data(9, "set", "x.y") for n in range(2000)]
while not over(): frame(*many)
""",
    "topics": """
while not over(): frame(*[Emit(f"h.t{next(NUMBERS)}", Raw(encode({}))) for n in range(4000)])
""",
    "tree": """
frame(*[handler(".".join(["h"] + ["*" if n >> bit & 1 else "a" for bit in range(11)]), f"f{n}") for n in range(2048)])
while not over(): frame(*[Emit("h." + "a." * 10 + f"t{next(NUMBERS)}", Raw(encode({}))) for n in range(4000)])
""",
    "misspelt": """
frame(*[Expose(9, Method("m" * 180 + str(n))) for n in range(4000)])
while not over(): frame(*[Call(next(NUMBERS), "h." + "m" * 150 + str(n)) for n in range(4000)])
""",
    "asks": """
frame(*[handler("h.q", f"f{n}") for n in range(2000)])
while not over():
    frame(*[Ask(next(NUMBERS), "h.q", Raw(encode({})), time.monotonic() + 100) for n in range(4000)])
""",
    "calls": """
while not over():
    frame(*[Call(next(NUMBERS), "h.attack", deadline=time.monotonic() + 100) for n in range(4000)])
""",
    "letters": """
frame(*[handler("h.dead", f"f{n}") for n in range(200)])
while not over():
    frame(*[Emit("h.dead", Raw(encode({}))) for n in range(500)])
    frame(*[Rejected(seq, Failure(type="E" * 9000, message="m" * 9000, traceback="t" * 9000, where="w" * 9000))
            for seq in range(500)])
""",
    "secrets": """
while not over():
    frame(Loaded([], [], "", [f"secret-{next(NUMBERS)}-" + chr(0x1F600) * 40 for n in range(1000)]))
""",
    "failures": """
while not over(): frame(*[Failed("load", Failure(type="E", message="m" * 4000, traceback="t" * 4000))] * 400)
""",
    "pings": """
while not over(): frame(*[Ping(1)] * 4000)
""",
    "numbers": """
done = encode(Done([1] * 65_536))
body = b"\\xdd" + struct.pack(">I", 200) + done * 200
while not over(): pieces(struct.pack(">I", len(body)) + body)
""",
    "handlers": """
loaded = b"\\x93\\x14\\xdc\\x40\\x00" + b"\\x93\\x01\\xa1a\\xa1b" * 16_384 + b"\\x90"
body = b"\\xdd" + struct.pack(">I", 150) + loaded * 150
while not over(): pieces(struct.pack(">I", len(body)) + body)
""",
    "wide": """
text = ("x" * (15 << 20) + chr(0x1F600)).encode()
body = b"\\x91\\x95\\x20\\x14\\xdb" + struct.pack(">I", len(text)) + text + b"\\xcb" + bytes(8) + b"\\xa0"
while not over(): pieces(struct.pack(">I", len(body)) + body)
""",
    "exported": """
while not over(): frame(*[Exported(Raw(encode(bytes(15 << 20))))])
""",
    "unread": """
frame(Data(9, "set", "h.large", Raw(encode(bytes(60_000)))))
while not over(): frame(*[Data(9, "get", "h.large")] * 1000)
""",
    "shared": """
for n in range(100): frame(Data(9, "set", f"h.large{n}", Raw(encode(bytes(1 << 20)))))
while not over(): frame(*[Data(9, "set", f"h.large{n}", Raw(encode(bytes(1 << 20)))) for n in range(12)])
""",
    "requests": """
import socket
end = socket.socket(fileno=os.dup(11)) if sys.platform != "wasi" else None
while not over() and end is not None:
    end.send(encode([next(NUMBERS), "chmod", "x", 0o600]))
""",
    "hidden": """
frame(Loaded([], [], "", [f"secret {n} " + chr(0x1F600) for n in range(1000)]))
data = b"ab\\n" * 21_000
while not over(): os.write(1, data)
""",
    "newlines": """
data = b"\\n" * 65536
while not over(): os.write(1, data)
""",
    "returns": """
data = b"a\\r" * 32768
while not over(): os.write(1, data)
""",
    "errors": """
data = b"x\\n" * 32768
while not over(): os.write(2, data)
""",
    "undecodable": """
data = b"\\xff" * 65536
while not over(): os.write(1, data)
""",
    "files": """
os.makedirs(self.api.data_dir, exist_ok=True)
while not over():
    with open(os.path.join(self.api.data_dir, f"f{next(NUMBERS)}"), "w"): pass
""",
}  # fmt: skip
"""By name."""


def source(level: str) -> str:
    """The plugin ``h`` with a method for each attack."""
    forever = {"restart": "permanent", "intensity": 5, "backoff": 0.1}
    parts = [manifest(isolation=level, supervision=forever, limits={"stop": 0.2}), _HEADER]
    for name, code in ATTACKS.items():
        parts += [f"    def {name}(self, over):\n", textwrap.indent(code.strip("\n"), " " * 8), "\n"]
    return "".join(parts)
