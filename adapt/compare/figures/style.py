"""What all figures share: colours, an empty figure without pyplot, axes of scores and of seconds, files.

matplotlib is imported inside the functions: comparing needs it only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.figures.numbers import on_log_axis
from adapt.compare.metric import Metric
from adapt.compare.statistics import Interval
from adapt.compare.verdict import label, seconds_text
from adapt.files import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DASHES",
    "LEADER",
    "MARKERS",
    "clock",
    "clock_axis",
    "empty_figure",
    "heights",
    "lay_out",
    "name_of",
    "save",
    "score_axis",
    "title",
    "weight",
]

#: Colours by role, from the colour-blind-safe palette of Okabe and Ito (2008).
COLOURS = {
    "forward": "#D55E00",
    "head": "#0072B2",
    "backprop": "#009E73",
    "finetune": "#AA4499",
    "retrain": "#555555",
    "rival": "#E69F00",
}
MARKERS = {"forward": "D", "head": "o", "backprop": "s", "finetune": "^", "retrain": "v", "rival": "*"}
DASHES = ("-", "--", ":", "-.")
LEADER = {"arrowstyle": "-", "color": "#999999", "lw": 0.6, "shrinkA": 0, "shrinkB": 3}

_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "svg.hashsalt": "adapt",  # element ids that do not change from run to run
}


@contextmanager
def empty_figure(height: float = 4.4, grid: str = "y") -> Iterator[tuple[Figure, Axes]]:
    """An empty figure (7.2 inches by ``height``) in our style, lines across the axes ``grid``; the style
    lasts while it is drawn, and touches nobody else's figures."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)  # measures texts
        axes = figure.add_subplot()
        axes.grid(axis=grid, color="#e4e4e4", lw=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
        yield figure, axes


def lay_out(figure: Figure) -> None:
    """Place axes and texts, for good. Left to matplotlib, every file would be laid out anew, which is most of
    the time that it takes, and names that were put where there is room might no longer have it."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


def save(figure: Figure, path_without_suffix: Path) -> list[Path]:
    """Write the figure as SVG and PNG, the same bytes for the same figure; returns both paths."""
    import matplotlib

    lay_out(figure)

    folder, name = path_without_suffix.parent, path_without_suffix.name
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    with matplotlib.rc_context({"svg.hashsalt": "adapt"}):
        with writing(svg) as file:
            figure.savefig(file, format="svg", dpi=200, metadata={"Date": None, "Creator": None})
        with writing(png) as file:
            figure.savefig(file, format="png", dpi=200, metadata={"Software": None})
    return [svg, png]


def score_axis(axes: Axes, metric: Metric, means: Sequence[float]) -> None:
    """The vertical axis: its label, and its scale."""
    log = on_log_axis(metric, means)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.set_ylabel(metric.axis + (" (log scale)" if log else ""))


def clock_axis(axes: Axes, text: str) -> None:
    """A horizontal log axis of seconds, written as one says them."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(clock)
    axes.set_xlabel(f"{text} (log scale)")


def clock(seconds: float, _: float = 0) -> str:
    """A tick of seconds: ``10 ms``, ``1 s``."""
    return seconds_text(seconds).replace(".0 ", " ")


def heights(axes: Axes, metric: Metric, score: Interval) -> tuple[float, float, float]:
    """Where a point's interval begins, the point, and where it ends; nothing lies below the axis."""
    half = score.ci95 or 0.0
    low, mean, high = (metric.scale * (score.mean + sign * half) for sign in (-1, 0, 1))
    return max(low, axes.get_ylim()[0]), mean, high


def title(comparison: Comparison, size: str) -> str:
    """What was compared, in a line."""
    what = f"{size} {comparison.task['source']}".strip()
    return f"{comparison.experiment}: {what}, {comparison.device}"


def name_of(method: MethodResult, most: int | None = None) -> str:
    """The method's name, with its number of tasks if that is less than the ``most`` of any."""
    few = f" ({method.n} tasks)" if most is not None and method.n < most else ""
    return label(method).removeprefix("the ") + few


def weight(method: MethodResult) -> str:
    """Ours stands out."""
    return "bold" if method.role == "forward" else "normal"
