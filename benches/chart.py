"""The chart of a benchmark: for each measurement a group of bars, on a logarithmic scale."""

from __future__ import annotations

import pathlib

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

# In this order, and with these colours, everywhere.
WHO = {"tenure": "#1b7837", "go": "#2c7fb8", "v3election": "#8856a7", "limit": "#999999"}
LABELS = {"tenure": "Tenure", "go": "Go concurrency", "v3election": "v3election RPC", "limit": "bare requests"}


def draw(rows: list[dict[str, object]], path: pathlib.Path) -> None:
    """Times only: what is measured in other units is in the table."""
    shown = [row for row in rows if row["unit"] in ("ms", "elections/s")]
    figure, places = pyplot.subplots(1, 2, figsize=(11, 5), width_ratios=(3, 1), layout="constrained")
    for place, unit, better in zip(places, ("ms", "elections/s"), ("lower is better", "higher is better")):
        group(place, [row for row in shown if row["unit"] == unit])
        place.set_xlabel(f"{unit}, median, {better}")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=color) for color in WHO.values()]
    figure.legend(handles, [LABELS[who] for who in WHO], loc="outside upper center", ncols=len(WHO), frameon=False)
    save(figure, path)


def save(figure: pyplot.Figure, path: pathlib.Path) -> None:
    """The same picture for the same numbers."""
    matplotlib.rcParams["svg.hashsalt"] = "tenure"
    figure.savefig(path, metadata={"Date": None})


def group(place: pyplot.Axes, rows: list[dict[str, object]]) -> None:
    height = 0.8 / len(WHO)
    for at, row in enumerate(rows):
        for offset, (who, color) in enumerate(WHO.items()):
            value = row.get(who)
            if isinstance(value, dict):
                place.barh(at + offset * height, value["p50"], height, color=color)
                place.text(value["p50"], at + offset * height, f" {value['p50']:.3g}", va="center", fontsize=6)
    place.set_yticks([at + 0.3 for at in range(len(rows))], [str(row["name"]) for row in rows], fontsize=8)
    place.invert_yaxis()
    place.set_xscale("log")
    place.spines[["top", "right"]].set_visible(False)
    place.margins(x=0.15)


def draw_curves(curves: dict[str, list[dict[str, float | str]]], titles: dict[str, str], path: pathlib.Path) -> None:
    """The hand-over's median (line) and p99 (dots) over the number of whatever grows."""
    figure, places = pyplot.subplots(1, len(curves), figsize=(11, 4), sharey=True, squeeze=False, layout="constrained")
    for place, (curve, rows) in zip(places[0], curves.items()):
        for who in ("tenure", "go"):
            points = [row for row in rows if row["program"] == who]
            counts = [row["count"] for row in points]
            place.plot(counts, [row["handover_p50_ms"] for row in points], color=WHO[who], label=LABELS[who])
            place.plot(counts, [row["handover_p99_ms"] for row in points], "o", color=WHO[who], markersize=3)
        place.set_xscale("log")
        place.set_yscale("log")
        place.set_xlabel(titles[curve])
        place.spines[["top", "right"]].set_visible(False)
    places[0][0].set_ylabel("hand-over, ms: median (line), p99 (dots)")
    places[0][0].legend(frameon=False)
    save(figure, path)
