"""Reliability diagram: how often a method is right, over how sure it says it is.

DeGroot and Fienberg (1983), *The Comparison and Evaluation of Forecasters*; on the diagonal probabilities are
right, below it a method is surer than it should be. A dot is a bin of :mod:`adapt.compare.reliability`, large
where many queries are in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adapt.compare.comparison import Comparison
from adapt.compare.figures.style import COLOURS, MARKERS, empty_figure, name_of, title
from adapt.compare.reliability import Bins
from adapt.compare.verdict import size_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reliability", "reliability_points"]

#: Area of the dot that all queries are in, in points².
LARGEST = 220.0


def reliability_points(bins: Bins) -> list[tuple[float, float, float]]:
    """Of each bin that holds any query: how sure, how often right, and the share of the queries."""
    count = np.asarray(bins.count)
    rows = count > 0
    sure, right = (np.asarray(sums)[rows] / count[rows] for sums in (bins.stated, bins.true))
    return [*zip(sure.tolist(), right.tolist(), (count[rows] / count.sum()).tolist(), strict=True)]


def reliability(comparison: Comparison) -> Figure:
    """A line for every method whose probabilities are known."""
    with empty_figure() as (figure, axes):
        axes.plot([0, 1], [0, 1], color="#999999", lw=1, ls=":")
        for method in comparison.methods.values():
            if method.reliability is None:
                continue
            sure, right, share = zip(*reliability_points(method.reliability.top), strict=True)
            colour = COLOURS[method.role]
            axes.plot(sure, right, color=colour, lw=1, alpha=0.6)
            area = [max(4.0, LARGEST * part) for part in share]
            marker = MARKERS[method.role]
            axes.scatter(sure, right, s=area, color=colour, marker=marker, lw=0, label=name_of(method))
        axes.set_xlabel("how sure it says it is")
        axes.set_ylabel("how often it is right")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        legend = axes.legend(loc="upper left", frameon=False)
        for handle in legend.legend_handles:
            handle.set_sizes([36.0])  # type: ignore[union-attr]
        axes.set_title(title(comparison, size_text(comparison.task)))
        return figure
