"""After how many tasks meta-training has paid off against retraining each time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from adapt.compare.comparison import Comparison
from adapt.compare.figures.numbers import BreakEven, break_even_of
from adapt.compare.figures.style import COLOURS, clock, empty_figure, name_of, title
from adapt.compare.verdict import size_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["break_even", "break_even_text", "task_counts"]


def break_even(comparison: Comparison) -> Figure:
    """Total seconds (log) against the number of tasks (log): meta-training once and ours on every task, and
    retraining on every task until it is as good; where the lines cross, meta-training has paid off."""
    found, ours = break_even_of(comparison), comparison.ours
    assert found is not None and ours is not None
    tasks = task_counts(found)
    totals = found.start + tasks * found.each
    with empty_figure() as (figure, axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(clock)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_xlabel("number of tasks (log scale)")
        axes.set_ylabel("total time (log scale)")
        axes.set_xlim(tasks[0], tasks[-1])
        lines = (
            (totals, "forward", "-", f"meta-training, then {name_of(ours)}"),
            (tasks * found.other, "retrain", "--", "retraining each time"),
        )
        for seconds, role, dash, text in lines:
            axes.plot(tasks, seconds, ls=dash, lw=2, color=COLOURS[role], label=text)
        axes.plot(found.tasks, found.tasks * found.other, "o", color="black", ms=6, zorder=4)
        axes.annotate(
            break_even_text(found),
            (found.tasks, found.tasks * found.other),
            (12, -10),
            textcoords="offset points",
            va="top",
        )
        axes.legend(loc="upper left", frameon=False)
        axes.set_title(title(comparison, size_text(comparison.task)))
        return figure


def break_even_text(found: BreakEven) -> str:
    """Retraining that never gets there makes its time a lower bound, and the number of tasks an upper one."""
    bound = "at most " if found.bound else ""
    return f"paid off after {bound}{math.ceil(found.tasks):,} tasks"


def task_counts(found: BreakEven) -> np.ndarray:
    """From one task to well beyond where the lines cross, evenly on a log axis."""
    return np.geomspace(1, 30 * max(found.tasks, 10 / 3), 61)
