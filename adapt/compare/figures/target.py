"""Time to accuracy: in how many seconds other methods first get as far as ours, task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from adapt.compare.comparison import Comparison
from adapt.compare.figures.numbers import Reached, log_range, reached
from adapt.compare.figures.style import COLOURS, clock_axis, empty_figure, name_of, title, weight
from adapt.compare.verdict import seconds_text, size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["time_text", "time_to_score"]

GOLDEN = (5**0.5 - 1) / 2
#: Beyond so many dots they are lighter, and pixels in an SVG, which would get large.
MANY = 200


def time_to_score(comparison: Comparison) -> Figure:
    """A row of dots per method, a dot per task: seconds (log) until it was first as good as ours.

    An arrow stands where a method ended without getting there; the median and its 95 % interval are drawn in
    black, and are lower bounds if there is an arrow among the dots.
    """
    rows = reached(comparison)
    with empty_figure(1.2 + 0.42 * len(rows), grid="x") as (figure, axes):
        clock_axis(axes, f"time to first reach the {comparison.metric.noun} of {name_of(rows[0].method)}")
        axes.set_xlim(*log_range([second for row in rows for second in row.seconds], 0.05))
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [name_of(row.method) for row in rows])
        for place, (row, name) in enumerate(zip(rows, axes.get_yticklabels(), strict=True)):
            name.set(color=COLOURS[row.method.role], weight=weight(row.method))
            _draw_row(axes, place, row)
        axes.set_title(title(comparison, size_text(comparison.task)))
        return figure


def time_text(row: Reached) -> str:
    """``120 ms``, or ``≥ 3.1 s, 4 of 30 never``."""
    median = seconds_text(row.median[0])
    return f"≥ {median}, {row.never} of {len(row.there)} never" if row.never else median


def _draw_row(axes: Axes, place: int, row: Reached) -> None:
    colour, n = COLOURS[row.method.role], len(row.seconds)
    # Multiples of the golden ratio spread evenly however many they are, and the same way every time.
    beside = place + 0.5 * (np.arange(n) * GOLDEN % 1 - 0.5)
    seconds, there = np.asarray(row.seconds), np.asarray(row.there)
    alpha = 0.7 if n <= MANY else 0.35
    many: Any = {"color": colour, "alpha": alpha, "rasterized": n > MANY}
    axes.plot(seconds[there], beside[there], "o", ms=3.5, mew=0, **many)
    axes.plot(seconds[~there], beside[~there], ">", ms=5, mfc="none", **many)
    median, low, high = row.median
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color="black", lw=1.2, zorder=4)
    axes.plot([median, median], [place - 0.3, place + 0.3], color="black", lw=2, zorder=4)
    axes.annotate(
        time_text(row), (1.02, place), xycoords=("axes fraction", "data"), va="center", annotation_clip=False
    )
