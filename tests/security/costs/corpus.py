"""Inputs that cost more than their size says, by what reads them. They are kept as recipes: written out, some are
megabytes.

What a review or a fuzzer finds becomes an entry; ``test_costs`` bounds what each may cost.
"""

from __future__ import annotations

from collections.abc import Mapping

from microkernel.wire import frames, messages
from microkernel.wire.codec import Raw, encode, encode_message

CODE = "from microkernel import IPlugin\nclass Plugin(IPlugin): ...\n"


def with_block(*lines: str) -> str:
    return "\n".join(["# /// script", "# [tool.microkernel]", *(f"# {line}" for line in lines), "# ///", CODE])


def nested_finally(depth: int, inner: str = "pass") -> str:
    lines = [f"{'    ' * n}try: pass\n{'    ' * n}finally:" for n in range(depth)]
    return "\n".join([*lines, "    " * depth + inner, ""])


MANIFESTS = {
    "a version of many digits": ('version = "' + "1" * 5000 + '"', "MK0144"),
    "a version of some digits": ('version = "' + "1" * 200 + '"', "MK0110"),
    "a number of many digits": ("concurrency = " + "1" * 5000, "MK0142"),
    "a number with underscores": ("concurrency = " + "1_" * 5000 + "1", "MK0142"),
    "a hexadecimal number": ("concurrency = 0x" + "f" * 5000, "MK0142"),
    "a number in a list": ("config = {a = [1, " + "7" * 5000 + "]}", "MK0142"),
    "a number over 64 bits": ("concurrency = 99999999999999999999", "MK0110"),
    "a requirement of many digits": ('requires = ["a>=' + "1" * 3000 + '"]', "MK0110"),
    "a dependency with brackets": ('dependencies = ["a; ' + "(" * 400 + '"]', "MK0124"),
    "many requirements": ("requires = [" + '"a",' * 300 + "]", "MK0144"),
    "a large memory": ('limits = {memory = "' + "9" * 400 + 'GB"}', "MK0110"),
    "a memory over 64 bits": ('limits = {memory = "9999999TiB"}', "MK0110"),
    "a memory in digits": ("limits = {memory = 10000000000000000000}", "MK0110"),
    "an infinite time": ("limits = {load = 1e999}", "MK0110"),
    "a dotted key": ("config." + ".".join("a" * 19_500) + " = 1", "MK0143"),
    "a dotted key in quotes": ("config" + " . \"a\" . 'b'" * 3000 + " = 1", "MK0143"),
    "a dotted table": ("[tool.microkernel.config" + ".a" * 3000 + "]", "MK0143"),
    "deep lists": ("config = {a = " + "[" * 5000 + "]" * 5000 + "}", "MK0141"),
    "deep tables": ("config = " + "{a = " * 5000 + "1" + "}" * 5000, "MK0141"),
    "deep dotted tables": ("config = {" + "a.a.a.a.a.a.a.a = {" * 20 + "}" * 21, "MK0141"),
    "a long text": ('description = "' + "a" * 5000 + '"', "MK0144"),
    "a long key": ("a" * 5000 + " = 1", "MK0144"),
    "a long name": ('name = "' + "a" * 200 + '"', "MK0108"),
    "a large block": ('config.a = """' + "a" * 70_000 + '"""', "MK0139"),
    "a date that does not exist": ("config.a = 2026-02-31", "MK0111"),
}
SOURCES = {
    "nested finally": (nested_finally(19), "MK0141"),
    "nested finally behind a text": (nested_finally(19).replace("pass\n", 'x = """\nno indent\n"""\n', 18), "MK0141"),
    "nested finally with tabs": (nested_finally(19).replace("    ", "\t"), "MK0141"),
    "brackets": ("x = " + "(" * 150 + ")" * 150, "MK0141"),
    "open brackets": ("x = " + "{[" * 150, "MK0141"),
    "indentation": ("\n".join(" " * n + "if 1:" for n in range(90)) + "\n" + " " * 90 + "pass\n", "MK0141"),
    "a large source": ("#" * (2 * 1024 * 1024), "MK0139"),
    "a decimal number": ("x = " + "1" * 5000, "MK0103"),
    "unary operators": ("x = " + "-" * 100_000 + "1", "MK0103"),
}

# Sources that no scan refuses; what parses them has bounds on memory and time.
UNSCANNED: Mapping[str, str] = {
    "copies of a finally block": (
        "def f(x):\n  try:\n" + "    if x: return\n" * 9000 + "  finally:\n" + "    a.b.c(d)\n" * 9000
    ),
    "nested copies": (
        "def f(x):\n"
        + "".join(f"{' ' * n}try:\n" + f"{' ' * n} if x: return\n" * 9 + f"{' ' * n}finally:\n" for n in range(1, 7))
        + " " * 7
        + "pass\n"
    ),
    "an empty list for each three bytes": "x = [" + "()," * 300_000 + "]\n",
    "many imports and calls": "import a\n" * 10_000 + "a.f()\n" * 10_000,
    "a long chain": "x = a" + ".a" * 20_000 + "\n",
    "many comparisons": "x = 1" + " < 1" * 20_000 + "\n",
}


def _body(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return frames.head(len(body)) + body


_MILLION = (1_000_000).to_bytes(4, "big")
FRAMES: Mapping[str, bytes] = {
    "a million empty lists": _body(b"\x91", b"\xdd" + _MILLION + b"\x90" * 1_000_000),
    "a million nulls as messages": _body(b"\xdd" + _MILLION + b"\xc0" * 1_000_000),
    "lists within lists": _body(b"\x91" * 100_000 + b"\x90"),
    "a length without a body": frames.head(frames.MAX_FRAME),
    "a length that is too long": frames.head(frames.MAX_FRAME + 1) + b"\x90",
    "a list that says it has four billion": _body(b"\x91\xdd\xff\xff\xff\xff"),
    "a map that says it has four billion": _body(b"\x91\x92\x01\xdf\xff\xff\xff\xff"),
    "a text that says it has four billion bytes": _body(b"\x91\x92\x01\xdb\xff\xff\xff\xff"),
    "many small messages": _body(b"\xdc\x10\x00" + encode_message(messages.Emit("a", Raw(encode({})))) * 4096),
}
REQUESTS: Mapping[str, bytes] = {
    "a long name": encode([1, "a." * 400 + "example.com", 443, 1.0]),
    "a name of dots": encode([1, "." * 900, 443, 1.0]),
    "a name of brackets": encode([1, "[" * 450 + "]" * 450, 443, 1.0]),
    "a long number": encode([1, "1" * 900, 443, 1.0]),
    "colons": encode([1, ":" * 900, 443, 1.0]),
    "a number over 64 bits": b"\x94\xcf" + b"\xff" * 8 + b"\xa1a\xcd\x01\xbb\xcb\x3f" + b"\0" * 7,
    "deep lists": b"\x91" * 1000,
}
GRANTS: tuple[str, ...] = (
    *(f"*.{n}.example.com:443" for n in range(120)),
    *(f"10.{n}.0.0/16:*" for n in range(130)),
)


def asking(entries: int) -> str:
    """A manifest that asks for as much as its bounds let it, in patterns that must be compared with each other."""
    kinds = ("emit", "on", "call", "data.read", "data.write")
    rows = [f'"{kind}" = [' + ", ".join(f'"*.w{n}.**"' for n in range(entries)) + "]" for kind in kinds]
    return "[permissions]\n" + "\n".join(rows) + "\n"
