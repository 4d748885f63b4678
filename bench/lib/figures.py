"""Figures of ``bench/forward_vs_backprop.py``, ``bench/memory.py`` and ``bench/physics.py``, from their JSON,
in the style of ``adapt/compare/figures``.

matplotlib is imported by what draws, as there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapt.compare.figures import COLOURS, empty_figure
from adapt.compare.verdict import seconds_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["adaptation_memory", "memory_against_depth", "memory_against_horizon", "training_curves"]

#: What is not backprop or the forward gradient itself, from the same palette (Okabe and Ito 2008).
OTHERS = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#332288", "#555555")
GRADIENTS = {
    "forward_gradient": ("forward gradient", COLOURS["forward"]),
    "pushforward": ("pushforward alone", "#E69F00"),
    "backprop": ("backprop", COLOURS["backprop"]),
}
#: As in ``bench/memory.py``.
ADAPTATIONS = {
    "forward": "forward, all examples at once",
    "forward_rows": "forward, few examples at a time",
    "backprop": "backprop, all examples at once",
    "backprop_rows": "backprop, few examples at a time",
    "backprop_checkpointed": "backprop, checkpointed",
    "backprop_checkpointed_rows": "backprop, checkpointed, few at a time",
}
DEEP = re.compile(r"(.+), depth (\d+)")


def training_curves(result: Mapping[str, Any]) -> Figure:
    """Training loss (log) against seconds of training (log), a line for every estimator, the mean
    over seeds; names from the highest loss at the end to the lowest."""
    others = iter(OTHERS)
    with empty_figure() as (figure, axes):
        lines = []
        for name, points in result["curves"].items():
            trained = [point for point in points if point[1] > 0]  # a log axis has no start
            if not trained:
                continue
            fixed = {"backprop": COLOURS["backprop"], "Gaussian, k = 1": COLOURS["forward"]}
            (line,) = axes.plot(
                [point[0] for point in trained],
                [point[2] for point in trained],
                color=fixed.get(name) or next(others),
                lw=2 if name in fixed else 1.3,
                label=name,
            )
            lines.append((trained[-1][2], line))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: seconds_text(value).replace(".0 ", " "))
        axes.set_xlabel("seconds of training (log scale)")
        axes.set_ylabel("training loss (log scale)")
        axes.set_title("An MLP trained from scratch on real digits")
        handles = [line for _, line in sorted(lines, key=lambda pair: -pair[0])]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
        return figure


def adaptation_memory(result: Mapping[str, Any]) -> Figure:
    """Peak memory of an adaptation in units of inference (log) against the depth of a chain (log)."""
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in result["rows"]:
        found = re.fullmatch(r"chain of (\d+)", row["case"])
        if found and row["unit"] == "× inference":
            points[row["metric"].removeprefix("memory/")].append((int(found[1]), row["value"]))
    with empty_figure() as (figure, axes):
        for index, (key, values) in enumerate(points.items()):
            axes.plot(*zip(*values, strict=True), marker="os^Dv*"[index], ms=4.5, label=ADAPTATIONS[key])
        depths = [depth for depth, _ in next(iter(points.values()))]
        axes.axhline(1, color="0.6", lw=1, ls=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("layers (log scale)")
        axes.set_ylabel("peak memory ÷ inference (log scale)")
        axes.set_title("Adapting all norms of a chain of convolutions, 25 examples")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return figure


def memory_against_depth(result: Mapping[str, Any]) -> Figure:
    """Peak memory of one gradient (MiB, log) against hidden layers (log): the gradients by colour, the kinds
    of networks by dash."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for row in result["rows"]:
        found = DEEP.fullmatch(row["case"])
        for key in GRADIENTS:
            if found and row["metric"] == f"memory/{key}_mib":
                lines[found[1], key].append((int(found[2]), row["value"]))
    kinds = list(dict.fromkeys(kind for kind, _ in lines))
    depths = sorted({depth for points in lines.values() for depth, _ in points})
    with empty_figure() as (figure, axes):
        for (kind, key), points in lines.items():
            name, colour = GRADIENTS[key]
            dash, marker = (("-", "o"), ("--", "s"))[kinds.index(kind) % 2]
            style = {"color": colour, "ls": dash, "marker": marker, "ms": 4.5}
            axes.plot(*zip(*sorted(points), strict=True), **style, label=f"{name}, {kind}")
        axes.set_xscale("log")
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("hidden layers (log scale)")
        axes.set_ylabel("peak memory, MiB (log scale)")
        axes.set_yscale("log")
        axes.set_title("One gradient of all parameters, 64 digits")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return figure


def memory_against_horizon(result: Mapping[str, Any]) -> Figure:
    """Peak memory of one adaptation (MB, log) against the points of a trajectory (log)."""
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in result["rows"]:
        found = re.fullmatch(r"(\d+) points: (.+)", row["case"])
        if found and row["metric"] == "memory/peak_mb":
            lines[found[2]].append((int(found[1]), row["value"]))
    colours = {"forward": COLOURS["forward"], "backprop": COLOURS["backprop"]}
    with empty_figure() as (figure, axes):
        for name, points in lines.items():
            axes.plot(
                *zip(*points, strict=True), marker="o", ms=4.5, color=colours.get(name, "0.5"), label=name
            )
        horizons = [points for points, _ in next(iter(lines.values()))]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(horizons, [f"{points:,}" for points in horizons])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("points of a trajectory (log scale)")
        axes.set_ylabel("peak memory, MB (log scale)")
        axes.set_title("One adaptation along four directions, through a simulation")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        return figure
