"""The picture: a panel for each row that has peers, a bar for each contender, the shortest at the top; bars are medians
on a logarithmic scale, each panel with its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from bench.report import value_text
from bench.rows import FLOOR, OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 2
_BAR = 0.24
# Inches: of a bar, and of a panel's title and margin.
_HEAD = 0.85
_COLOURS = {OURS: "#d9480f", FLOOR: "#495057"}
_PEER = "#adb5bd"
# Characters in a line of a title.
_TITLE = 58


def draw(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """``rows`` as in the JSON. A row of several placements is shown in its first."""
    panels = list(_first_placements(rows))
    if not panels:
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    lines = list(_in_lines(panels))
    heights = [_HEAD + _BAR * max(len(_bars(panel)) for panel in line) for line in lines]
    figure, grid = pyplot.subplots(
        len(lines), _COLUMNS, figsize=(13, sum(heights)), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for line, places in zip(lines, grid, strict=True):
        most = max(len(_bars(panel)) for panel in line)
        for axes, panel in zip(places, [*line, *[None] * (_COLUMNS - len(line))], strict=True):
            _panel(axes, panel, most) if panel else axes.set_axis_off()
    figure.tight_layout(h_pad=1.0, w_pad=2.5)
    legend = {"microkernel": _COLOURS[OURS], "floor: the least that does the work": _COLOURS[FLOOR], "peers": _PEER}
    figure.legend(
        [Patch(color=colour) for colour in legend.values()], legend,
        loc="lower center", ncols=len(legend), bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=10,
    )  # fmt: skip
    figure.savefig(path, dpi=90, bbox_inches="tight", pad_inches=0.2)
    pyplot.close(figure)


def _first_placements(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    seen = set()
    for row in rows:
        if row["peers"] and (row["row"], row["name"]) not in seen:
            seen.add((row["row"], row["name"]))
            yield row


def _in_lines(panels: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rest = iter(panels)
    while line := list(islice(rest, _COLUMNS)):
        yield line


def _bars(row: Mapping[str, Any]) -> list[tuple[float, str, str]]:
    """The value, the name and the colour of each, the shortest first."""
    ours = (row["ours"], "microkernel", _COLOURS[OURS])
    floor = (row["floor"], row["floor_is"], _COLOURS[FLOOR])
    return sorted([ours, floor, *((value, name, _PEER) for name, value in row["peers"].items())])


def _panel(axes: Axes, row: Mapping[str, Any], most: int) -> None:
    """There is room for so many bars, so that all in a line are of one height."""
    values, names, colours = zip(*_bars(row), strict=True)
    places = range(len(values))
    axes.barh(places, values, color=colours, height=0.7)
    axes.set_yticks(places, names, fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 6)
    axes.set_ylim(most - 0.5, -0.5)
    for place, value in zip(places, values, strict=True):
        axes.text(value * 1.1, place, value_text(value, row["unit"]), va="center", fontsize=8, color="#495057")
    title = fill(f"{row['row']}  {row['name']} ({row['placement']})", _TITLE)
    axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_bounds(-0.5, len(values) - 0.5)
    axes.tick_params(axis="both", length=0)
    axes.xaxis.set_visible(False)
