"""How much faster ours is than each of the others, with intervals and lower bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapt.compare.comparison import Comparison
from adapt.compare.figures.numbers import log_range, speedups_of
from adapt.compare.figures.style import COLOURS, empty_figure, name_of, title
from adapt.compare.statistics import Speedup
from adapt.compare.verdict import ratio_text, size_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["speedup_bars", "speedup_text"]


def speedup_bars(comparison: Comparison) -> Figure:
    """A bar per other method: its time ÷ ours (log), median over tasks with its 95 % interval; to the left of
    1 where ours is slower. A lower bound is hatched and ends in an arrow.

    Of retraining the time until it first reaches our score counts, of the others all of their time.
    """
    bars, ours = speedups_of(comparison), comparison.ours
    assert ours is not None
    with empty_figure(1.3 + 0.42 * len(bars), grid="x") as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlim(*log_range([1.0, *(end for _, s in bars for end in (s.ratio, *(s.ends or ())))], 0.06))
        axes.set_ylim(len(bars) - 0.45, -0.55)
        for place, (method, speedup) in enumerate(bars):
            axes.barh(
                place,
                speedup.ratio - 1,
                0.6,
                left=1,
                color=COLOURS[method.role],
                alpha=0.45 if speedup.bound else 0.85,
                hatch="///" if speedup.bound else None,
                edgecolor="white",
            )
            if speedup.ends is not None:
                axes.plot(speedup.ends, [place, place], color="black", lw=1.2)
            if speedup.bound:
                axes.plot(speedup.ratio, place, ">", color="black", ms=5)
            axes.annotate(
                speedup_text(speedup),
                (1.02, place),
                xycoords=("axes fraction", "data"),
                va="center",
                annotation_clip=False,
            )
        axes.axvline(1, color="black", lw=0.8)
        axes.set_yticks(range(len(bars)), [name_of(method) for method, _ in bars])
        for (method, _), name in zip(bars, axes.get_yticklabels(), strict=True):
            name.set_color(COLOURS[method.role])
        for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            ticks(lambda value, _: f"{value:,g}×" if f"{value:e}"[0] in "125" else "")
        axes.set_xlabel(f"time of the other ÷ time of {name_of(ours)}, median over tasks (log scale)")
        axes.set_title(title(comparison, size_text(comparison.task)))
        return figure


def speedup_text(speedup: Speedup) -> str:
    """``12× (11× to 14×)``, with ``≥`` before a lower bound."""
    between = f" ({' to '.join(map(ratio_text, speedup.ends))})" if speedup.ends is not None else ""
    return ("≥ " if speedup.bound else "") + ratio_text(speedup.ratio) + between
