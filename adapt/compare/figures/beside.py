"""A few comparisons in one figure: how wrong each method is, against the seconds that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.figures.names import label_points
from adapt.compare.figures.points import score_panel
from adapt.compare.figures.style import empty_figure
from adapt.compare.metric import Metric
from adapt.compare.verdict import size_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["errors_beside"]

WIDTH = 6.4  # inches of a panel


def errors_beside(comparisons: Sequence[Comparison]) -> Figure:
    """The share of queries that are wrong (%), or the squared error, against seconds to adapt: a panel for
    each of ``comparisons``, and in all of them less is better and lies lower."""
    with empty_figure() as (figure, first):
        first.remove()
        figure.set_size_inches(WIDTH * len(comparisons), figure.get_figheight())
        panels = figure.subplots(1, len(comparisons), squeeze=False)[0]
        shown = [_as_errors(comparison) for comparison in comparisons]
        points = []
        for axes, errors in zip(panels, shown, strict=True):
            axes.grid(axis="y", color="#e4e4e4", lw=0.8)
            axes.set_axisbelow(True)
            points.append(score_panel(axes, errors))
            size = f"{size_text(errors.task)} {errors.task['source']}".strip()
            axes.set_title(f"{errors.experiment}: {size}")
        for axes, errors, found in zip(panels, shown, points, strict=True):
            label_points(figure, axes, errors.metric, found)
        return figure


def _as_errors(comparison: Comparison) -> Comparison:
    """The same with scores of which less is better."""
    metric = comparison.metric
    if not metric.higher_is_better:
        return comparison
    errors = replace(metric, noun="error", higher_is_better=False, log_axis=True, share=False)
    methods = {name: _wrong(method, metric) for name, method in comparison.methods.items()}
    return replace(comparison, metric=errors, methods=methods)


def _wrong(method: MethodResult, metric: Metric) -> MethodResult:
    def turned(scores: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(metric.most - score for score in scores)

    curves = tuple(Curve(curve.seconds, turned(curve.score)) for curve in method.curves)
    return replace(method, score=turned(method.score), curves=curves)
