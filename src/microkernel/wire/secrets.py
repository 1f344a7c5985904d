"""Secret values: they are redacted from every text that leaves an instance.

A value is redacted in each form in which programs print texts: unchanged; as ``repr``, JSON, URLs, HTML and ``bytes``
write it, in any mixture of these; as base64, also inside a longer encoded text; in hexadecimal.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Generator, Iterable, Iterator

HIDDEN = "***"
# Minimum length of a secret in characters: redacting shorter ones would make every text unreadable and hide nothing.
SHORTEST = 4
# Minimum length of a line of a secret, and of a piece of base64, that is redacted by itself.
_LONG = 2 * SHORTEST
# Characters in a line of base64, as MIME and PEM wrap it.
_WRAPPED = (76, 64)
# Characters that stand for one character in the widest usual form: four bytes as \\xf0.
_MAX_CHARACTER_FORM = 16
# Total characters of secrets chosen by one plugin for which each notation is stored; for more, only the texts are.
_MAX_QUOTED = 64 * 1024
# Maximum of ``Secrets.longest``.
_MAX_OVERLAP = 64 * 1024
# Characters that are searched between two pauses.
_STEP = 100_000
# Backslashes before a character that was quoted three times: a text in JSON in a repr in a repr.
_QUOTED = 7
_ENTITIES = {'"': "quot", "&": "amp", "'": "apos", "<": "lt", ">": "gt"}
_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", "\v": "v", "\0": "0", "\a": "a"}


class Secrets:
    """A set of secret values. ``redact`` may be called on any thread, also while values are added."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values: frozenset[str] = frozenset()
        # Length of the longest form in characters: when a text is processed in pieces, a secret may extend this far
        # into the next.
        self.longest = 0
        self._forms: tuple[str, ...] = ()
        self._patterns: dict[str, re.Pattern[str]] = {}
        self.add(values)

    def add(self, values: Iterable[str], *, in_any_mixture: bool = True) -> None:
        """Redact these values too.

        ``in_any_mixture`` also matches mixtures of notations, by a search that a value can make slow. Do not use it for
        values chosen by an untrusted plugin; for those, each usual notation is matched by itself.
        """
        new = {str(value) for value in values} - self.values
        written = new if in_any_mixture else _within(new, _MAX_QUOTED)
        marked = {text for value in written for text in _texts(value) if not _is_simple(text)}
        forms = {text for value in new for text in _texts(value)}
        forms |= {form for value in written for form in _encoded(value)}
        patterns: dict[str, re.Pattern[str]] = {}
        if in_any_mixture:
            patterns = {text: _pattern(text) for text in marked}
        else:
            forms |= {form for text in marked for form in _quoted(text)}
        self.values = self.values | new
        self._forms = tuple(sorted({*self._forms, *forms}, key=len, reverse=True))  # one may be part of another
        self._patterns = dict(sorted({**self._patterns, **patterns}.items(), key=lambda each: -len(each[0])))
        self.longest = min(_MAX_OVERLAP, max((_MAX_CHARACTER_FORM * len(value) for value in self.values), default=0))

    def redact(self, text: str) -> str:
        steps = self.redact_in_steps(text)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                cut: str = done.value
                return cut

    def redact_in_steps(self, text: str) -> Generator[None, None, str]:
        """Like ``redact``, as a generator that pauses, because searching a long text for many values is slow."""
        for pattern in self._patterns.values():
            text = pattern.sub(HIDDEN, text)
        forms = self._forms
        at_once = max(1, _STEP // (len(text) + 1))
        for number, form in enumerate(forms, 1):
            if form in text:
                text = text.replace(form, HIDDEN)
            if number % at_once == 0:
                yield
        return text


def size_of(values: Iterable[str]) -> tuple[int, int]:
    """Return the number of texts that are redacted for these values, each of which may have several lines, and their
    total characters."""
    kept = list(values)
    return sum(max(1, len(value.splitlines())) for value in kept), sum(map(len, kept))


def _within(values: Iterable[str], limit: int) -> set[str]:
    """Return the shortest values that have at most ``limit`` characters in total."""
    chosen = set()
    for value in sorted(values, key=len):
        limit -= len(value)
        if limit < 0:
            break
        chosen.add(value)
    return chosen


def _quoted(text: str) -> Iterator[str]:
    import html  # rarely needed
    import json
    from urllib.parse import quote, quote_plus

    data = b"".join(map(_bytes, text))
    for quoted in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield from (quoted, quoted.replace("/", "\\/"), json.dumps(quoted)[1:-1])
    for quoted in (repr(text)[1:-1], ascii(text)[1:-1], repr(data)[2:-1]):
        yield from (quoted, repr(quoted)[1:-1])
    yield from (quote(data), quote(data, safe=""), quote_plus(data), html.escape(text))


def _texts(value: str) -> Iterator[str]:
    """Yield the value, also without a file's final newline, and its lines, because output arrives in lines."""
    yield from (text for text in (value, value.strip()) if len(text) >= SHORTEST)
    yield from (line for line in value.splitlines() if len(line) >= _LONG)


def _is_simple(text: str) -> bool:
    """Return whether every notation leaves the text unchanged."""
    return text.isascii() and text.isalnum()


def _encoded(value: str) -> Iterator[str]:
    """Yield the forms in which the value is no longer readable."""
    for data in {b"".join(map(_bytes, text)) for text in (value, value.strip())}:
        if len(data) >= SHORTEST:
            yield from (data.hex(), data.hex().upper(), *_base64(data))


def _base64(data: bytes) -> Iterator[str]:
    """Yield the base64 forms of the data, alone and inside other data.

    Four characters stand for three bytes. So data behind other bytes starts at one of three offsets, and shares its
    first and last character with its neighbours.
    """
    for before in range(3):
        text = b2a_base64(bytes(before) + data, newline=False).decode()
        shared = (0, 3, 2)[(before + len(data)) % 3]
        yield from _both_alphabets(text[(0, 2, 3)[before] : len(text) - shared])
    whole = b2a_base64(data, newline=False).decode()
    for width in (len(whole), *_WRAPPED):
        for at in range(0, len(whole), width):
            yield from _both_alphabets(whole[at : at + width])


def _both_alphabets(text: str) -> Iterator[str]:
    if len(text) >= SHORTEST:
        yield text
        yield text.replace("+", "-").replace("/", "_")


def _pattern(text: str) -> re.Pattern[str]:
    """Return a pattern for the text however its characters were escaped. Runs of backslashes are bounded, so that no
    text is slow to search."""
    runs = re.finditer(r"\\+|[^\\]", text)
    return re.compile("".join(_backslashes(run[0]) if run[0][0] == "\\" else _character(run[0]) for run in runs))


def _backslashes(run: str) -> str:
    return rf"(?:\\{{{len(run)},{(_QUOTED + 1) * len(run)}}}|(?:{_percent(run[0])}|{_entity(run[0])}){{{len(run)}}})"


def _character(char: str) -> str:
    if _is_simple(char):
        return char
    literal = re.escape(char) if char != "\n" else "\r?\n"
    ways = [rf"\\{{0,{_QUOTED}}}{literal}", _percent(char), _entity(char), rf"\\{{1,{_QUOTED + 1}}}(?:{_escape(char)})"]
    if not char.isascii():
        ways.append("".join(rf"\\{{1,{_QUOTED + 1}}}x(?i:{byte:02x})" for byte in _bytes(char)))
    return f"(?:{'|'.join(ways)})"


def _escape(char: str) -> str:
    """Return a pattern for what follows the backslash."""
    code = ord(char)
    ways = [rf"u(?i:{code:04x})", rf"u\{{(?i:{code:x})\}}", rf"U(?i:{code:08x})"]
    if code < 0x100:
        ways += [rf"x(?i:{code:02x})", f"{code:03o}"]
    elif code > 0xFFFF:
        high, low = divmod(code - 0x10000, 0x400)
        ways.append(rf"u(?i:{0xD800 + high:04x})\\{{1,{_QUOTED + 1}}}u(?i:{0xDC00 + low:04x})")
    return "|".join([*ways, _ESCAPES[char]] if char in _ESCAPES else ways)


def _percent(char: str) -> str:
    """Return a pattern for the character in a URL, or in a URL inside another; in a form a space is a plus."""
    return "".join(f"%(?:25){{0,2}}(?i:{byte:02x})" for byte in _bytes(char)) + (r"|\+" if char == " " else "")


def _entity(char: str) -> str:
    name = f"|{_ENTITIES[char]}" if char in _ENTITIES else ""
    return rf"&(?:amp;){{0,2}}(?:#0{{0,4}}{ord(char)}|#[xX]0{{0,4}}(?i:{ord(char):x}){name});"


def _bytes(char: str) -> bytes:
    """Encode a character. A lone surrogate stands for a byte that is not UTF-8, as in a path."""
    return bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else char.encode("utf-8", "surrogatepass")
