"""Layout of tables, pages and lines. Nothing depends on colour; widths are in cells."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from .as_json import json_text
from .translator import Translator, plain, terminal_safe

NOTHING = "—"
# Width without a terminal: nothing is wrapped or cut.
ENDLESS = 100_000
MARKS = {"explain": "›", "direct": "·", "success": "✓", "notice": "•", "warn": "!", "error": "✗"}
STYLES = {"explain": "dim", "success": "green", "notice": "cyan", "warn": "yellow", "error": "red"}

_STATES = {
    "active": "green",
    "waiting": "yellow",
    "failed": "red",
    "quarantined": "red",
    "zombie": "red",
    "stopped": "dim",
}
_LIMITS = frozenset({"memory", "cpu", "files", "file size", "disk", "frames"})
_REACH = frozenset({"network", "file system", "processes", "system calls"})
_COUNTS = ("events", "calls", "emitted", "waiting", "restarts", "dropped", "refused", "dead")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

Row = Sequence[str | Text]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. With ``keep`` 0 it is always shown; otherwise the highest numbers are omitted first."""

    head: str
    right: bool = False
    keep: int = 0
    fold: bool = False


class _SafeConsole(Console):
    """A rich console whose output contains no character that controls the terminal, whatever the source."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(terminal_safe(segment.text), segment.style)


def render(what: Iterable[RenderableType], width: int = ENDLESS, color: bool = False) -> str:
    """Return text with a newline after each line. Lines are not wrapped; tables fit the width."""
    out = StringIO()
    console = _SafeConsole(
        file=out, width=width, force_terminal=color, color_system="standard" if color else None,
        highlight=False, markup=False, emoji=False, legacy_windows=False,
    )  # fmt: skip
    for each in what:
        console.print(each, soft_wrap=not isinstance(each, Columns))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


class Columns:
    """A table that omits columns that do not fit, instead of cutting them."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Row], *, head: bool = True) -> None:
        self._columns = columns
        self._rows = rows
        self._head = head

    def __rich_console__(self, console: Console, options: Any) -> Iterable[RenderableType]:
        kept = list(range(len(self._columns)))
        table = self._table(kept)
        endless = options.update(width=ENDLESS, max_width=ENDLESS)
        while Measurement.get(console, endless, table).minimum > options.max_width:
            last = max(kept, key=lambda index: self._columns[index].keep)
            if not self._columns[last].keep:
                break
            kept.remove(last)
            table = self._table(kept)
        yield table

    def _table(self, kept: Sequence[int]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=self._head, header_style="dim")
        for index in kept:
            column = self._columns[index]
            table.add_column(
                Text(column.head),
                justify="right" if column.right else "left",
                no_wrap=not column.fold,
                overflow="fold" if column.fold else "ellipsis",
            )
        for row in self._rows:
            table.add_row(*(_cell(row[index]) for index in kept))
        return table


def _cell(content: str | Text) -> Text:
    return content if isinstance(content, Text) else Text("\n".join(map(plain, content.split("\n"))))


# Pieces


def duration(seconds: float, translator: Translator) -> str:
    """Format seconds: ``41 s``, ``2 m``, ``3 h``, ``5 d``."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {translator.word(f'unit.{unit}')}"
    return f"0 {translator.word('unit.s')}"


def size(number: int | None) -> str:
    """Format bytes for people."""
    if number is None:
        return NOTHING
    for unit, name in _SIZES:
        if number >= unit:
            return f"{number / unit:.0f} {name}" if number >= 10 * unit else f"{number / unit:.1f} {name}"
    return f"{number} B"


def is_colored(environ: Mapping[str, str]) -> bool:
    """Return whether the terminal shows colours and its user wants them."""
    return "NO_COLOR" not in environ and environ.get("TERM") not in ("dumb", "unknown")


def or_nothing(value: object) -> str:
    return NOTHING if value in (None, "") else plain(str(value))


def version_of(version: str) -> str:
    """Return the version to show; a dash for 0.0.0, the version of a manifest that names none."""
    return NOTHING if version in ("", "0.0.0") else plain(version)


def value_text(value: Any) -> str:
    """Return a value in one line, as it would be typed."""
    return plain(json_text(value))


def clock(moment: float) -> str:
    """Return the time of day; a dash for a time outside of this machine's calendar."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (OverflowError, OSError, ValueError):
        return NOTHING


def state(info: Mapping[str, Any], translator: Translator) -> Text:
    return Text(translator.state(info["state"]), _STATES.get(info["state"], "yellow"))


def line(level: str, *parts: str) -> Text:
    """Return one line about one fact: its mark, its subject, then the text."""
    style = STYLES.get(level, "")
    text = Text(MARKS.get(level, "·"), style)
    for part in parts:
        if part:
            text.append(f" {part}" if len(text) == 1 else f"  {part}", "")
    return text


def padded(text: str, cells: int) -> str:
    return text + " " * max(0, cells - cell_len(text))


# Tables and pages


def plugins(infos: Sequence[Mapping[str, Any]], translator: Translator) -> list[RenderableType]:
    """Return the table of `mk ps`."""
    if not infos:
        return [Text(translator.word("console.none"))]
    columns = [
        Column(translator.word(f"ps.{name}"), right, keep)
        for name, right, keep in (
            ("plugin", False, 0), ("version", False, 7), ("level", False, 2), ("state", False, 0), ("up", True, 4),
            ("pid", True, 3), ("memory", True, 8), ("cpu", True, 9), ("events", True, 5), ("calls", True, 6),
            ("waiting", True, 1), ("restarts", True, 1),
        )
    ]  # fmt: skip
    return [Columns([*columns, Column("")], [_plugin_row(info, translator) for info in infos])]


def _plugin_row(info: Mapping[str, Any], translator: Translator) -> Row:
    active = info["state"] == "active"
    cpu = info["cpu"]
    return [
        info["name"], version_of(info["version"]), info["isolation"], state(info, translator),
        duration(info["up"], translator) if active else NOTHING,
        or_nothing(info["pid"]), size(info["memory"]),
        NOTHING if cpu is None else f"{cpu:.1f} {translator.word('unit.s')}",
        f"{info['events']:,}", f"{info['calls']:,}", f"{info['waiting']:,}", f"{info['restarts']:,}",
        info["error_id"] or "",
    ]  # fmt: skip


def plugin(info: Mapping[str, Any], translator: Translator) -> list[RenderableType]:
    """Return the page of `mk info`."""
    title = Text(f"{info['name']} {version_of(info['version'])}  {info['isolation']}  ", "bold")
    title.append_text(state(info, translator))
    if info["doc"]:
        title.append(f"\n{plain(info['doc'].splitlines()[0])}", "not bold")
    rows = [[translator.word(f"info.{key}"), text] for key, text in _facts(info, translator) if text]
    stack = [] if info["traceback"] else _all_lines(info["last_death"].get("stack", ""))
    shown = Columns([Column(""), Column("", fold=True)], rows, head=False)
    return [title, shown, *their_lines(info["traceback"]), *stack]


def _facts(info: Mapping[str, Any], translator: Translator) -> list[tuple[str, str]]:
    error, word = info["error_id"], translator.word
    protections = [_protection(name, how, info["isolation"], translator) for name, how in info["protections"].items()]
    return [
        ("error", f"{error}  {translator.tell(error, info['error_fields'])}" if error else ""),
        ("next_start", duration(info["next_start"], translator) if info["next_start"] is not None else ""),
        ("last_death", translator.reason(info["last_death"].get("reason", ""))),
        ("path", info["path"]),
        ("generation", str(info["generation"])),
        ("pid", str(info["pid"] or "")),
        ("up", duration(info["up"], translator) if info["state"] == "active" else ""),
        ("memory", size(info["memory"]) if info["memory"] is not None else ""),
        ("kept", "  ".join(f"{word(f'kept.{what}')} {size(used)}" for what, used in info["kept"].items() if used)),
        ("counts", "  ".join(f"{word(f'count.{name}')} {info[name]:,}" for name in _COUNTS)),
        ("requires", translator.listed(info["requires"])),
        ("wants", translator.listed(info["wants"])),
        ("direct", translator.listed(info["direct"])),
        ("methods", "\n".join(_method(name, info) for name in info["methods"])),
        ("handlers", translator.listed(info["topics"])),
        ("permissions", _grants(info["permissions"], translator)),
        ("asked", _grants(info["asked"], translator)),
        ("protections", "\n".join(protections)),
    ]  # fmt: skip


def _method(name: str, info: Mapping[str, Any]) -> str:
    """Return ``total(currency: str = 'CNY') -> Decimal``, and below it the first line of the method's docstring."""
    returns, doc = info["returns"].get(name, ""), info["docs"].get(name, "").partition("\n")[0]
    signature = f"{name}{info['methods'][name]}" + (f" -> {returns}" if returns else "")
    return f"{signature}\n  {doc}" if doc else signature


def _protection(name: str, how: str, level: str, translator: Translator) -> str:
    """Return the word for a protection. A limit that the level supports but that is not set is not "unavailable"."""
    shown = how
    if how == "unavailable" and name in _LIMITS and level != "thread":
        shown = "unset"
    elif how == "unavailable" and name in (*_LIMITS, *_REACH):
        shown = "free"
    words = {"name": translator.word_or(f"guarded.{name}", name), "how": translator.word(f"protection.{shown}")}
    return translator.word("protection.line", **words)


def _grants(permissions: Mapping[str, Any], translator: Translator) -> str:
    everything = translator.word("grant.all")
    return "\n".join(
        f"{kind}  {everything if what == 'all' else translator.listed(what)}" for kind, what in permissions.items()
    )


def letters(dead: Sequence[Mapping[str, Any]], translator: Translator, *, each: bool = False) -> list[RenderableType]:
    """Return the table of `mk dead`: a line for each letter, or for all of one plugin, topic, handler and reason, which
    shows the newest."""
    if not dead:
        return [Text(translator.word("dead.none"))]
    groups: dict[object, list[Mapping[str, Any]]] = {}
    for one in dead:
        key = one["id"] if each else (one["plugin"], one["handler"], one["topic"], one["reason"])
        groups.setdefault(key, []).append(one)
    names = ("id", "count", "time", "plugin", "topic", "deliveries")
    columns = [*(Column(translator.word(f"dead.{name}"), name in ("id", "count", "deliveries")) for name in names)]
    rows = [
        [
            str(group[-1]["id"]), str(len(group)), clock(group[-1]["time"]), group[-1]["plugin"], group[-1]["topic"],
            str(group[-1]["delivery"]), translator.reason(group[-1]["reason"]),
        ]
        for group in sorted(groups.values(), key=lambda group: int(group[-1]["id"]))
    ]  # fmt: skip
    return [Columns([*columns, Column(translator.word("dead.reason"), fold=True)], rows)]


def letter(dead: Mapping[str, Any], translator: Translator) -> list[RenderableType]:
    """Return the page of `mk dead show`."""
    named = ("id", "plugin", "handler", "topic", "source")
    rows = [[translator.word(f"dead.{name}"), plain(str(dead[name]))] for name in named]
    rows += [
        [translator.word("dead.time"), clock(dead["time"])],
        [translator.word("dead.deliveries"), str(dead["delivery"])],
        [translator.word("dead.reason"), translator.reason(dead["reason"])],
        [translator.word("dead.data"), value_text(dead["data"])],
    ]
    return [Columns([Column(""), Column("", fold=True)], rows, head=False), *_all_lines(dead["traceback"])]


def _all_lines(traceback: str) -> list[RenderableType]:
    """Return all lines, indented but otherwise unchanged."""
    return [Text("\n".join(f"    {plain(each)}" for each in traceback.splitlines()), "dim")] if traceback else []


def board(data: Mapping[str, Mapping[str, Any]], translator: Translator) -> list[RenderableType]:
    """Return the table of `mk data`."""
    if not data:
        return [Text(translator.word("data.none"))]
    columns = [Column(translator.word("data.key")), Column(translator.word("data.revision"), True)]
    rows = [
        [key, str(each["revision"]), each["owner"], value_text(each["value"])] for key, each in sorted(data.items())
    ]
    return [
        Columns(
            [*columns, Column(translator.word("data.owner")), Column(translator.word("data.value"), fold=True)], rows
        )
    ]


def terms(words: Sequence[Sequence[str]], translator: Translator) -> list[RenderableType]:
    """Return the table of `mk glossary`."""
    heads = [Column(translator.word("glossary.word")), Column(translator.word("glossary.other"))]
    return [Columns([*heads, Column(translator.word("glossary.means"), fold=True)], list(words))]


def commands(usages: Sequence[tuple[str, str]], translator: Translator) -> list[RenderableType]:
    """Return the commands with their descriptions for `help`. ``usages`` are verbs with their arguments."""
    rows = [[usage, translator.word(f"help.{verb}")] for verb, usage in usages]
    return [Columns([Column("", fold=True), Column("", fold=True)], rows, head=False)]


def log_line(record: Mapping[str, Any], name_cells: int = 0, *, stamped: bool = False) -> Text:
    """Return the line for a log record or a printed line of a plugin."""
    level = "error" if record["level"] >= 40 else "warn" if record["level"] >= 30 else "direct"
    if record["stream"] in MARKS:
        level = record["stream"]
    text = Text("|", "dim") if record["stream"] in ("stdout", "stderr") else Text(MARKS[level], STYLES.get(level, ""))
    stamp = f"{clock(record['time'])}  " if stamped else ""
    text.append(f" {stamp}{padded(plain(record['plugin']), name_cells)}  ", "")
    text.append(plain(record["text"].split("\n", 1)[0]), "")
    for more in record["text"].split("\n")[1:]:
        text.append(f"\n    {plain(more)}", "dim")
    return text


def their_lines(traceback: str) -> list[RenderableType]:
    """Return a plugin's traceback without our frames; empty if the message already contains its only line."""
    blocks = _blocks(traceback)
    if len(blocks) < 2:
        return []
    return [Text("\n".join(f"    {plain(each)}" for block in blocks for each in block), "dim")]


def _blocks(traceback: str) -> list[list[str]]:
    blocks: list[list[str]] = []
    ours = False
    for each in traceback.splitlines():
        if each.startswith('  File "'):
            ours = "/microkernel/" in each and "/plugins/" not in each
            if not ours:
                blocks.append([each])
        elif each.startswith("    ") and blocks and not ours and each.strip(" ^~"):
            blocks[-1].append(each)
    return blocks
