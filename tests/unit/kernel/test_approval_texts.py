"""What a person reads before approving is what is approved."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microkernel.errors import ManifestError
from microkernel.hosts.confined.addresses import parse_grant, permits
from microkernel.kernel.admission import permissions as requests
from microkernel.kernel.admission.approval_policy import _held
from microkernel.kernel.admission.approval_texts import unmistakable
from microkernel.kernel.admission.permissions import Review
from microkernel.loader.manifests import read_manifest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/data", "/srv/data"),
        ("/srv/数据/テスト/자료", "/srv/数据/テスト/자료"),
        ("good:1\n+ net evil:1", r"good:1\n+ net evil:1".replace(r"\n", r"\x0a")),
        ("a\r\x1b[2K\x85\u2028b", r"a\x0d\x1b[2K\x85\u2028b"),
        ("/srv/\u202etxt.exe", r"/srv/\u202etxt.exe"),
        ("/srv/\u0430pi", r"/srv/\u0430pi"),  # Cyrillic
        ("/srv/\uff41pi\uff0fx", r"/srv/\uff41pi\uff0fx"),  # full width
        ("/srv/a\u200bb\u3164c\u00a0d", r"/srv/a\u200bb\u3164c\xa0d"),
        ("/srv\u30cedata", r"/srv\u30cedata"),  # a kana like a slash
        ("/srv/a      b ", r"/srv/a\x20\x20\x20\x20\x20\x20b\x20"),
        ("/srv/a b", "/srv/a b"),
        ("C:\\x0a", "C:\\\\x0a"),
        ("\U0001d41a\udce9", r"\U0001d41a\udce9"),
    ],
)
def test_invisible_and_confusable_characters_are_escaped(text: str, shown: str) -> None:
    assert unmistakable(text) == shown
    assert requests.lines([("net", text)]) == (f"net {shown}",)


@given(st.text(), st.text())
def test_different_texts_are_shown_differently_on_one_line(one: str, other: str) -> None:
    shown = unmistakable(one)
    assert shown.isprintable()
    assert (shown == unmistakable(other)) == (one == other)
    assert all(char.isascii() or unicodedata.category(char) in ("Lo", "Lm") for char in shown)


def test_approval_message_is_one_line_whatever_the_names_contain() -> None:
    review = Review("p", "1", "sandbox", "/p\nMK0210", "d", added=requests.lines([("fs.read", "/a, + net x:1\nb")]))
    assert _held(review).text.startswith(r"asks for more than was approved: + fs.read /a\x2c + net x:1\x0ab ")
    assert r"the files of 1 are not the approved ones: a\x0ab, c\x2cd" in _held(
        replace(review, added=(), altered=True, changed=("a\nb", "c,d"))
    ).text.replace("its files ", "")
    assert r"/p\x0aMK0210" in _held(replace(review, approved_path="/o\n")).text


def permissions(tmp_path: Path, **table: list[str]) -> dict[str, tuple[str, ...] | None]:
    lines = [f'"{kind.replace("_", ".")}" = {what!r}' for kind, what in table.items()]
    (tmp_path / "plugin.toml").write_text("[permissions]\n" + "\n".join(lines), encoding="utf-8")
    (tmp_path / "__init__.py").write_text("")
    found = read_manifest(str(tmp_path)).permissions
    assert found is not None
    return requests.fields_of(found)


@pytest.mark.parametrize(
    ("written", "normal"),
    [("/srv/public/../../etc/shadow", "/etc/shadow"), ("/srv//a/./b/", "/srv/a/b"), ("//etc", "/etc"), ("/..", "/"),
     ("~/a/../b", "~/b"), ("~", "~"), ("~other/x", "~other/x"), ("a/../b", "b"), (".", ".")],
)  # fmt: skip
def test_path_is_shown_as_it_is_opened(tmp_path: Path, written: str, normal: str) -> None:
    assert permissions(tmp_path, fs_read=[written], fs_write=[written])["fs.read"] == (normal,)


@pytest.mark.parametrize("written", ["~/../other", "../x", "a/../../x", "~x/../y", "/srv/\\u0000"])
def test_path_that_leads_upwards_is_refused(tmp_path: Path, written: str) -> None:
    (tmp_path / "plugin.toml").write_text(f'[permissions]\n"fs.read" = ["{written}"]', encoding="utf-8")
    (tmp_path / "__init__.py").write_text("")
    with pytest.raises(ManifestError, match="MK0110"):
        read_manifest(str(tmp_path))


def test_host_is_shown_in_the_form_that_is_resolved(tmp_path: Path) -> None:
    written = ["g\u03bf\u03bfgle.com:443", "\uff47oogle.com:443", "bücher.example:*", "api.example.com:443"]
    found = permissions(tmp_path, net=written)["net"]
    assert found == ("xn--ggle-0nda.com:443", "google.com:443", "xn--bcher-kva.example:*", "api.example.com:443")
    hosts = ["g\u03bf\u03bfgle.com", "google.com", "Bücher.example", "api.example.com"]
    for grant, host in zip(found or (), hosts, strict=True):
        assert permits([parse_grant(grant)], host, 443)
    assert not permits([parse_grant("google.com:443")], "g\u03bf\u03bfgle.com", 443)


def test_invalid_host_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="MK0110"):
        permissions(tmp_path, net=["ü" * 80 + ".example:443"])
