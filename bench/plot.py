"""The picture: a panel for each row that has peers, with a bar for each contender, the shortest at the top.

Bars are medians on a logarithmic axis, because a row may span five powers of ten. The axis starts at the power of ten
below the shortest bar, and its grid lines are labelled. A kernel that was measured with and without its native core has
two bars.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.placement import Placement
from bench.report import value_text
from bench.rows import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 2
# Inches: of a bar, and of a panel's title, axis and margin.
_BAR = 0.26
_HEAD = 1.1
# Characters in a line of a title, and in the name of a contender.
_TITLE = 58
_NAME = 26
# Colours and legend by kind of bar.
_COLOURS = {"pure": "#d9480f", "native": "#f59f00", "floor": "#495057", "peer": "#adb5bd"}
_LEGEND = {
    "pure": "microkernel, pure Python",
    "native": "microkernel with its native core",
    "floor": "floor: the least code that does the work",
    "peer": "other libraries",
}
_GRID = "#dee2e6"
_TEXT = "#495057"


# Placements as readers of the README know them.
_WHERE: Mapping[Placement, str] = {"same": ", on one core", "diff": ", between two cores", "free": ""}


class Bar(NamedTuple):
    value: float
    name: str
    kind: str


class Panel(NamedTuple):
    """A row in one placement: its title, and its bars, the shortest first."""

    title: str
    unit: Unit
    bars: Sequence[Bar]


def draw(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draw ``rows``, which are as in the JSON. A row of several placements is shown in its first."""
    panels = list(panels_of(rows))
    if not panels:
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    lines = list(_in_lines(panels))
    heights = [_HEAD + _BAR * max(len(panel.bars) for panel in line) for line in lines]
    figure, grid = pyplot.subplots(
        len(lines), _COLUMNS, figsize=(13, sum(heights)), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for line, places in zip(lines, grid, strict=True):
        height = max(len(panel.bars) for panel in line)
        for axes, panel in zip(places, [*line, *[None] * (_COLUMNS - len(line))], strict=True):
            _draw(axes, panel, height) if panel else axes.set_axis_off()
    figure.tight_layout(h_pad=1.2, w_pad=2.5)
    drawn = {bar.kind for panel in panels for bar in panel.bars}
    legend = {text: _COLOURS[kind] for kind, text in _LEGEND.items() if kind in drawn}
    figure.legend(
        [Patch(color=colour) for colour in legend.values()], legend, title="shorter is better; logarithmic axes",
        loc="lower center", ncols=len(legend), bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=10,
    )  # fmt: skip
    figure.savefig(path, dpi=90, bbox_inches="tight", pad_inches=0.2)
    pyplot.close(figure)


def panels_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[Panel]:
    """Return a panel for each row with peers. The floor and the peers are those of the pure column, which has all."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["row"], row["name"]), []).append(row)
    for (id, name), measured in grouped.items():
        first, *_ = measured
        shown = [row for row in measured if row["placement"] == first["placement"]]
        if not first["peers"]:
            continue
        several = len(shown) > 1
        ours = [
            Bar(row["ours"], f"microkernel ({row['column']})" if several else "microkernel", row["column"])
            for row in shown
        ]
        floor = Bar(first["floor"], first["floor_is"], "floor")
        peers = [Bar(value, peer, "peer") for peer, value in first["peers"].items()]
        yield Panel(f"{id}  {name}{_WHERE[first['placement']]}", first["unit"], sorted([*ours, floor, *peers]))


def _in_lines(panels: Sequence[Panel]) -> Iterator[list[Panel]]:
    rest = iter(panels)
    while line := list(islice(rest, _COLUMNS)):
        yield line


def _draw(axes: Axes, panel: Panel, height: int) -> None:
    """Draw a panel with room for ``height`` bars, so that all bars in a line of panels have the same height."""
    values = [bar.value for bar in panel.bars]
    places = range(len(values))
    axes.barh(places, values, color=[_COLOURS[bar.kind] for bar in panel.bars], height=0.7, zorder=2)
    axes.set_yticks(places, [fill(bar.name, _NAME) for bar in panel.bars], fontsize=9)
    for label, bar in zip(axes.get_yticklabels(), panel.bars, strict=True):
        label.set_fontweight("bold" if bar.kind in ("pure", "native") else "normal")
    axes.set_xscale("log")
    found = ticks(min(values), max(values), panel.unit)
    axes.set_xticks(found, [value_text(tick, panel.unit) for tick in found], fontsize=8, color=_TEXT)
    axes.set_xticks([], minor=True)
    axes.set_xlim(found[0], max(found[-1], max(values)) * (max(values) / found[0]) ** 0.16)
    axes.set_ylim(height - 0.5, -0.5)
    for place, bar in enumerate(panel.bars):
        axes.annotate(
            value_text(bar.value, panel.unit), (bar.value, place), (4, 0), textcoords="offset points",
            va="center", fontsize=8, color=_TEXT, backgroundcolor="white", bbox={"color": "white", "pad": 0.5},
        )  # fmt: skip
    axes.set_title(fill(panel.title, _TITLE), fontsize=10, loc="left", fontweight="bold")
    axes.grid(axis="x", color=_GRID, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.tick_params(axis="both", length=0)
    axes.set_xlabel("memory" if panel.unit == "B" else "time", fontsize=8, color=_TEXT, loc="right")


def ticks(low: float, high: float, unit: Unit) -> list[float]:
    """Return the positions of the labels: powers of ten (of two, for bytes) from at most ``low`` to at least ``high``.

    Within fewer than two powers, twice and five times each power have a label too.
    """
    base = 4.0 if unit == "B" else 10.0
    first, last = math.floor(math.log(low, base)), math.ceil(math.log(high, base))
    powers = [base**exponent for exponent in range(first, last + 1)]
    if unit == "B" or last - first > 2:
        return powers
    return [power * factor for power in powers[:-1] for factor in (1, 2, 5)] + powers[-1:]
