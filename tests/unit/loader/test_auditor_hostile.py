"""For any source, the auditor ends, raises nothing, and reports where it stopped early."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microkernel.loader.auditor import Finding, inspect_data, inspect_source
from microkernel.loader.auditor.source import LARGEST

FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_PIECES = """import from os sys __import__ getattr api self . ( ) [ ] { } , = + - * % / ' " ''' f' 'a' 'os' 'sys'+'tem'
: def class lambda if else for in eval exec open Path x y 0 1 10**9 [::-1] .join .format .decode await @on # environ
service data_dir __globals__ é 'x'*999 chr(111) ; return yield :="""
WORDS = st.sampled_from([*_PIECES.split(), "\n", "\n\t", "\\", "\0", "\u202e"])


def ids(source: str | bytes) -> set[str]:
    data = source if isinstance(source, bytes) else source.encode()
    return {each.id for each in inspect_source(data, "p.py", "p", ["os", "shop"]) if isinstance(each, Finding)}


@FEW
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    inspect_source(data, "p.py")
    inspect_data(data, "p.bin")


@FEW
@given(st.text(max_size=200))
def test_random_text(text: str) -> None:
    inspect_source(text.encode(errors="surrogatepass"), "p.py")


@FEW
@given(st.lists(WORDS, max_size=40))
def test_random_words_of_python(words: list[str]) -> None:
    ids(" ".join(words))


_NAMES = st.sampled_from(["x", "y", "api", "os", "'o'", "'s'", "7", "b'os'", "self.k"])
_EXPRESSIONS = st.recursive(
    _NAMES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+*%/-"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["open", "getattr", "__import__", "api.emit", "bytes", "x.join"]), inner, inner)
        .map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(st.sampled_from(["str", "list", "reversed", "api.service", "Path", "eval"]), inner)
        .map(lambda t: f"{t[0]}({t[1]})"),
        inner.map(lambda t: f"({t})[::-1]"),
        inner.map(lambda t: f"({t}).read_text()"),
        inner.map(lambda t: f"f'a.{{{t}}}'" if "'" not in t else t),
    ),
    max_leaves=25,
)  # fmt: skip


@FEW
@given(st.lists(st.tuples(st.sampled_from(["x", "y", "self.k", "_"]), _EXPRESSIONS), max_size=8))
def test_random_programs(lines: list[tuple[str, str]]) -> None:
    source = "import os\nfrom pathlib import Path\n" + "".join(f"{name} = {value}\n" for name, value in lines)
    ids(source)


@pytest.mark.parametrize(
    "source",
    [
        "(" * 5000 + ")" * 5000,
        "[" * 150 + "]" * 150,
        "-" * 100_000 + "1",
        "x" + ".a" * 50_000,
        "x = " + "f(" * 150 + ")" * 150,
        "+".join(["'a'"] * 5000),
        "if x:\n" + "".join(" " * n + "if x:\n" for n in range(1, 99)) + " " * 99 + "pass",
        "lambda: " * 500 + "0",
        "\0" * 100,
    ],
    ids=lambda source: source[:10],
)
def test_deep_nesting(source: str) -> None:
    ids(source)


@pytest.mark.parametrize(
    "source",
    [
        "open('%1000000000d' % 1)",
        "open(f'{1:>1000000000}')",
        "open('{:>1000000000}'.format(1))",
        "open('a' * 10**9)",
        "open('a' * 9999999999)",
        "open(bytes(9999999999))",
        "a = 'aaaaaaaa'\n" + "a = a + a\n" * 50 + "open(a)",
        "a0 = 'a'\n" + "".join(f"a{n + 1} = a{n} + a{n}\n" for n in range(60)) + "open(a60)",
        "a0 = b\n" + "".join(f"a{n + 1} = a{n} + a{n}\n" for n in range(60)) + "open(a60)",
    ],
)
def test_constants_that_would_grow_without_end(source: str) -> None:
    assert "MK0834" in ids(source)


def test_names_that_go_round_in_circles() -> None:
    ids("x = y\ny = x\nx('a')\nx = __import__(x)(x)\nz = getattr(z, z)\nself.api2 = self.api2.x\nself.api2.emit(z)\n")
    ids("".join(f"a{n} = a{(n * 7 + 1) % 50}\n" for n in range(50)) * 10 + "a5('x')\n" * 50)


def test_too_large_files_are_skipped_with_a_finding() -> None:
    assert ids(b"x = 1\n" * (LARGEST // 6 + 1)) == {"MK0804"}


def test_more_findings_than_anybody_reads() -> None:
    assert "MK0804" in ids("eval('x')\n" * 1100)
