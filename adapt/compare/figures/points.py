"""Scores against what a method costs: seconds, with the curves of watched methods, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.figures.names import label_points
from adapt.compare.figures.numbers import DECADE, log_range, mean_curve, score_limits
from adapt.compare.figures.style import (
    COLOURS,
    MARKERS,
    clock_axis,
    empty_figure,
    score_axis,
    title,
)
from adapt.compare.verdict import size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["score_against_memory", "score_against_seconds", "score_panel"]


def score_against_seconds(comparison: Comparison) -> Figure:
    """Accuracy (%) or squared error, with 95 % intervals, against seconds to adapt (log), a point per method.

    A watched method also shows its mean score over time, as a line that ends at its point.
    """
    with empty_figure() as (figure, axes):
        points = score_panel(axes, comparison)
        axes.set_title(title(comparison, size_text(comparison.task)))
        label_points(figure, axes, comparison.metric, points)
        return figure


def score_panel(axes: Axes, comparison: Comparison) -> list[tuple[float, MethodResult]]:
    """Draw :func:`score_against_seconds` into ``axes``, without title and names; returns the points."""
    metric, methods = comparison.metric, list(comparison.methods.values())
    curves = {method.name: mean_curve(method.curves) for method in methods if method.curves}
    clock_axis(axes, "time to adapt to one task, median")
    starts = [curve.seconds[0] for curve in curves.values() if curve.seconds[0] > 0]
    axes.set_xlim(*log_range([*starts, *(method.adapt_seconds for method in methods)]))
    _score_range(axes, comparison, methods)
    for method in methods:
        if method.name in curves:
            curve = curves[method.name]
            shown = [metric.scale * value for value in curve.score]
            axes.plot(curve.seconds, shown, color=COLOURS[method.role], lw=1.3, alpha=0.6, zorder=1)
    points = [(method.adapt_seconds, method) for method in methods]
    _draw_points(axes, comparison, points)
    return points


def score_against_memory(comparison: Comparison) -> Figure:
    """Accuracy (%) or squared error, with 95 % intervals, against peak memory of the tensors of one
    adaptation (MB, log), a point per method."""
    points = [(method.peak_mb, method) for method in comparison.methods.values() if method.peak_mb]
    with empty_figure() as (figure, axes):
        axes.set_xscale("log")
        low, high = log_range([megabytes for megabytes, _ in points])
        axes.set_xlim(low, high)
        digits = "125" if high > DECADE * low else "123456789"
        for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            ticks(lambda value, _: f"{value:,.4g}" if f"{value:e}"[0] in digits else "")
        axes.set_xlabel("peak memory of one adaptation, MB (log scale)")
        _score_range(axes, comparison, [method for _, method in points])
        _draw_points(axes, comparison, points)
        axes.set_title(title(comparison, size_text(comparison.task)))
        label_points(figure, axes, comparison.metric, points)
        return figure


def _draw_points(axes: Axes, comparison: Comparison, points: Sequence[tuple[float, MethodResult]]) -> None:
    for x, method in points:
        score, scale = method.mean_score, comparison.metric.scale
        axes.errorbar(
            x,
            scale * score.mean,
            None if score.ci95 is None else scale * score.ci95,
            fmt=MARKERS[method.role],
            color=COLOURS[method.role],
            ms=8 if method.role == "forward" else 6,
            elinewidth=1.4,
            capsize=2.5,
            zorder=3,
        )


def _score_range(axes: Axes, comparison: Comparison, methods: Sequence[MethodResult]) -> None:
    """Scale and limits that show all points."""
    score_axis(axes, comparison.metric, [method.mean_score.mean for method in methods])
    axes.set_ylim(*score_limits(comparison.metric, methods, axes.get_yscale() == "log"))
