"""Count wordings that make English hard to read, in docstrings, comments, messages and documents.

    python -m tools.prose              counts by pattern, for the whole repository
    python -m tools.prose src/...      for some files or folders, each finding with its place
    python -m tools.prose --check      fail if one of the worst patterns is found; `./run lint` calls this

A pattern is a regular expression over running text. Code is not looked at: of a Python file only comments and strings
that stand alone (docstrings), of a document what is outside code blocks and back quotes.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

_PEOPLE = (
    "anyone|attacker|attackers|author|authors|caller|contributor|contributors|developer|developers|engineer|everyone|"
    "maintainer|maintainers|newcomer|one|operator|operators|people|person|reader|readers|reviewer|someone|stranger|"
    "those|user|users|you"
)

# The worst: `--check` refuses them.
REFUSED = {
    "told": r"\btold\b",
    "anew": r"\banew\b",
    "of its own": r"\bof (?:its|their|his|one's) own\b",
    "belongs into": r"\bbelongs? into\b",
    "who for code": rf"(?:(?<=[.:;] )|^)Who(?:ever)?\b(?![^.]*\?)|\b(?!(?:{_PEOPLE})\b)[a-z]+,? who\b",
}

# Counted only: a fair use of these exists.
COUNTED = {
    "what": r"\b[Ww]hat\b(?![^.]*\?)",
    "nobody, somebody": r"\b(?:[Nn]obody|[Ss]omebody|[Aa]nybody)\b",
    "tell": r"\b[Tt]ells?\b",
    "is no": r"\b(?:is|are) no\b",
    "begin": r"\b[Bb]eg[aiu]ns?\b",
    "Of ... opener": r"(?:^|[.:;] )Of [a-z]",
    "beside": r"\b[Bb]eside\b",
    "Whether opener": r"(?:^|[.:;] )Whether\b",
    "goes on": r"\bgo(?:es)? on\b",
    "so many": r"\bso (?:many|much)\b",
    "no more": r"\bno more\b(?! than)",
    "a second time": r"\b[Aa] second time\b",
}


class Text(NamedTuple):
    """A piece of prose, and the line on which it starts."""

    line: int
    text: str


class Finding(NamedTuple):
    path: Path
    line: int
    pattern: str
    text: str


def texts_of(path: Path) -> Iterator[Text]:
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _python(source)
    elif path.suffix == ".md":
        yield from _markdown(source)
    elif path.suffix == ".toml":
        yield from _messages(source)


def _python(source: str) -> Iterator[Text]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Text(node.lineno, _without_code(node.value.value))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(token.start[0], _without_code(token.string.lstrip("# ")))


def _markdown(source: str) -> Iterator[Text]:
    for number, paragraph in _paragraphs(re.sub(r"^```.*?^```", _blank, source, flags=re.DOTALL | re.MULTILINE)):
        yield Text(number, _without_code(paragraph))


def _messages(source: str) -> Iterator[Text]:
    for number, line in enumerate(source.splitlines(), 1):
        if line.partition("=")[2].strip().startswith('"'):
            yield Text(number, _without_code(line.partition("=")[2].strip(' "')))


def _paragraphs(source: str) -> Iterator[tuple[int, str]]:
    number = 1
    for paragraph in source.split("\n\n"):
        yield number, paragraph
        number += paragraph.count("\n") + 2


def _blank(block: re.Match[str]) -> str:
    return "\n" * block[0].count("\n")


def _without_code(text: str) -> str:
    return re.sub(r"(`+)[^`]*\1", "`x`", text)


def findings_in(path: Path, patterns: dict[str, str]) -> Iterator[Finding]:
    for start, text in texts_of(path):
        joined = re.sub(r"\s+", " ", text).strip()
        for name, pattern in patterns.items():
            for found in re.finditer(pattern, joined):
                shown = joined[max(0, found.start() - 30) : found.end() + 30]
                yield Finding(path, start, name, shown)


def files_below(places: list[Path]) -> list[Path]:
    """Tracked files of English prose; the Chinese ones and the list of changes of old versions are left out."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    files = [ROOT / name for name in listed.split("\0") if name and _is_prose(name)]
    chosen = [each.resolve() for each in places]
    return [file for file in files if not chosen or any(file.is_relative_to(each) for each in chosen)]


def _is_prose(name: str) -> bool:
    if "zh" in re.split(r"[/._-]", name):
        return False
    return name.endswith((".py", ".md", "messages/en.toml"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.prose", description=__doc__)
    parser.add_argument("places", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="only the worst patterns; fail if there are any")
    arguments = parser.parse_args()
    patterns = REFUSED if arguments.check else REFUSED | COUNTED
    found = [each for file in files_below(arguments.places) for each in findings_in(file, patterns)]
    if arguments.check or arguments.places:
        for each in found:
            print(f"{each.path.relative_to(ROOT)}:{each.line}: {each.pattern}: ... {each.text} ...")
    counts = Counter(each.pattern for each in found)
    for name in patterns:
        print(f"{counts[name]:6} {name}")
    return 1 if arguments.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
