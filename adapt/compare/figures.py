"""Scores against seconds and against shots, drawn without pyplot: no global figure, no window.

matplotlib is imported inside the functions: comparing needs it only when something is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.metric import Metric
from adapt.compare.statistics import Interval, mean_interval
from adapt.compare.verdict import label, per_class, seconds_text, size_text
from adapt.errors import AdaptError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = ["mean_curve", "save", "score_against_seconds", "score_against_shots"]

#: Colours by role, from the colour-blind-safe palette of Okabe and Ito (2008).
COLOURS = {
    "forward": "#D55E00",
    "head": "#0072B2",
    "backprop": "#009E73",
    "finetune": "#AA4499",
    "retrain": "#555555",
}
MARKERS = {"forward": "D", "head": "o", "backprop": "s", "finetune": "^", "retrain": "v"}
DASHES = ("-", "--", ":", "-.")
#: From this ratio of the largest score to the smallest on, a log axis shows more than a linear one.
DECADE = 10
LEADER = {"arrowstyle": "-", "color": "#999999", "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
#: Where a point's name may stand: offsets (right, up) in printer's points, preferred ones first.
PLACES = [
    (right * distance, up * distance)
    for distance in (6, 9, 14, 24, 36, 50)
    for right, up in ((1.5, 0), (0, 1), (0, -1), (-1.5, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
]

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


def score_against_seconds(comparison: Comparison) -> Figure:
    """Accuracy (%) or squared error, with 95 % intervals, against seconds to adapt (log), a point per method.

    A watched method (retraining) also shows its mean score over time, as a line that ends at its point.
    """
    metric, methods = comparison.metric, list(comparison.methods.values())
    with _figure() as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlim(*_log_range([method.adapt_seconds for method in methods]))
        _score_axis(axes, metric, [method.mean_score.mean for method in methods])
        axes.set_ylim(*_score_range(axes, metric, methods))
        for method in methods:
            colour, score = COLOURS[method.role], method.mean_score
            if method.curves:
                curve = mean_curve(method.curves)
                shown = [metric.scale * value for value in curve.score]
                axes.plot(curve.seconds, shown, color=colour, lw=1.3, alpha=0.6, zorder=1)
            axes.errorbar(
                method.adapt_seconds,
                metric.scale * score.mean,
                metric.scale * score.ci95 if score.n > 1 else None,
                fmt=MARKERS[method.role],
                color=colour,
                ms=8 if method.role == "forward" else 6,
                elinewidth=1.4,
                capsize=2.5,
                zorder=3,
            )
        axes.xaxis.set_major_formatter(lambda value, _: seconds_text(value).replace(".0 ", " "))
        axes.set_xlabel("time to adapt to one task, median (log scale)")
        axes.set_title(_title(comparison, size_text(comparison.task)))
        _label_points(figure, axes, metric, methods)
        return figure


def score_against_shots(comparisons: Sequence[Comparison]) -> Figure:
    """Accuracy (%) or squared error, with 95 % intervals, against shots (log), a line per method.

    Tasks of all seeds are pooled.

    Raises:
        AdaptError: nothing to draw, scores of different kinds, or two comparisons of the same shots, seed and
            method: pooling them would count tasks twice or mix settings.
    """
    pooled = _pool(comparisons)
    metric, task = comparisons[0].metric, comparisons[0].task
    with _figure() as (figure, axes):
        axes.set_xscale("log")
        ticks = sorted({shots for results in pooled.values() for shots in results})
        axes.set_xlim(*_log_range(ticks, 0.05))
        ends: list[tuple[float, float, MethodResult]] = []
        drawn: Counter[str] = Counter()
        lines = {
            name: {s: mean_interval([a for r in found for a in r.score]) for s, found in results.items()}
            for name, results in pooled.items()
        }
        _score_axis(axes, metric, [point.mean for line in lines.values() for point in line.values()])
        for rank, (name, results) in enumerate(pooled.items()):
            role = next(iter(results.values()))[0].role
            shots = sorted(results)
            scores = [metric.scale * lines[name][s].mean for s in shots]
            errors = [metric.scale * lines[name][s].ci95 for s in shots]
            # Methods stand next to each other, so that their intervals do not hide one another.
            places = np.asarray(shots) * 1.015 ** (rank - (len(pooled) - 1) / 2)
            dash = DASHES[drawn[role] % len(DASHES)]
            drawn[role] += 1
            axes.errorbar(
                places,
                scores,
                errors,
                fmt=MARKERS[role],
                ls=dash,
                color=COLOURS[role],
                ms=6 if role == "forward" else 4.5,
                lw=2 if role == "forward" else 1.3,
                elinewidth=1.2,
                capsize=2,
            )
            ends.append((places[-1], scores[-1], results[shots[-1]][0]))
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(f"shots: labelled examples{' per class' if per_class(task) else ''} (log scale)")
        axes.set_title(_title(comparisons[0], f"{task['ways']}-way" if per_class(task) else ""))
        _label_ends(axes, ends)
        return figure


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean score and median seconds over tasks, look by look.

    Tasks with more data have more looks; all are read at the same fractions of their own budget, so that
    every task counts everywhere and the curve ends where the method ends.
    """
    length = min(len(curve.seconds) for curve in curves)
    rows = [np.linspace(0, len(curve.seconds) - 1, length).round().astype(int) for curve in curves]
    seconds = [np.asarray(curve.seconds)[row] for curve, row in zip(curves, rows, strict=True)]
    score = [np.asarray(curve.score)[row] for curve, row in zip(curves, rows, strict=True)]
    return Curve(tuple(np.median(seconds, axis=0).tolist()), tuple(np.mean(score, axis=0).tolist()))


def save(figure: Figure, path_without_suffix: Path) -> list[Path]:
    """Write the figure as SVG and PNG, the same bytes for the same figure; returns both paths."""
    import matplotlib

    folder, name = path_without_suffix.parent, path_without_suffix.name
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    with matplotlib.rc_context({"svg.hashsalt": "adapt"}):
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
        figure.savefig(png, dpi=200, metadata={"Software": None})
    return [svg, png]


@contextmanager
def _figure() -> Iterator[tuple[Figure, Axes]]:
    """An empty figure in our style; the style lasts while it is drawn, and touches nobody else's figures."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)  # measures texts
        axes = figure.add_subplot()
        axes.grid(axis="y", color="#e4e4e4", lw=0.8)
        axes.set_axisbelow(True)
        yield figure, axes


def _pool(comparisons: Sequence[Comparison]) -> dict[str, dict[int, list[MethodResult]]]:
    """Method name → shots → results of all seeds."""
    if not comparisons:
        raise AdaptError("no comparison to draw: run a sweep over task.shots first")
    if len(found := {comparison.metric.noun for comparison in comparisons}) > 1:
        raise AdaptError(
            f"comparisons by {' and by '.join(sorted(found))} have no common axis: draw each kind"
        )
    seen = set()
    pooled: dict[str, dict[int, list[MethodResult]]] = {}
    for comparison in comparisons:
        shots = int(comparison.task["shots"])
        for name, result in comparison.methods.items():
            if (key := (shots, comparison.seed, name)) in seen:
                raise AdaptError(
                    f"two comparisons hold '{name}' at {shots} shots and seed {comparison.seed}: "
                    "give comparisons that differ in shots and seed only"
                )
            seen.add(key)
            pooled.setdefault(name, {}).setdefault(shots, []).append(result)
    return pooled


def _score_axis(axes: Axes, metric: Metric, means: Sequence[float]) -> None:
    """The vertical axis: its label, and its scale. Zero, the error of a perfect method, has no place on a log
    axis."""
    log = metric.log_axis and 0 < DECADE * min(means) <= max(means)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.set_ylabel(metric.axis + (" (log scale)" if log else ""))


def _score_range(axes: Axes, metric: Metric, methods: Sequence[MethodResult]) -> tuple[float, float]:
    """Limits that show all points; curves come in from the worse side, where learning starts."""
    scores = [method.mean_score for method in methods]
    ends = [metric.scale * (score.mean + sign * score.ci95) for score in scores for sign in (-1, 1)]
    best = [
        metric.scale * max(mean_curve(method.curves).score, key=metric.gain)
        for method in methods
        if method.curves
    ]
    if axes.get_yscale() == "log":
        floor = metric.scale * min(score.mean for score in scores) / DECADE  # an interval may reach below 0
        return _log_range([max(value, floor) for value in ends + best], 0.1)
    most = metric.scale * metric.most
    whole = most if np.isfinite(most) else max(ends) or 1.0
    margin = max(0.1 * (max(ends) - min(ends)), 0.005 * whole)
    return min(ends + best) - margin, min(max(ends + best) + margin, 1.01 * most)


def _log_range(values: Sequence[float], share: float = 0.12) -> tuple[float, float]:
    """Limits of a log axis with room (a ``share`` of the whole) at both ends, also around a single value."""
    room = max((max(values) / min(values)) ** share, 1.1)
    return min(values) / room, max(values) * room


def _title(comparison: Comparison, size: str) -> str:
    what = f"{size} {comparison.task['source']}".strip()
    return f"{comparison.experiment}: {what}, {comparison.device}"


def _label_points(figure: Figure, axes: Axes, metric: Metric, methods: Sequence[MethodResult]) -> None:
    """Write every method's name in the nearest place to its point that is free, or the least crowded one."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    frame, most = axes.get_window_extent(), max(method.n for method in methods)
    taken = [_point_box(axes, metric, method) for method in methods]
    curves = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
    for method in sorted(methods, key=lambda method: -metric.gain(method.mean_score.mean)):
        text = label(method).removeprefix("the ") + (f" ({method.n} tasks)" if method.n < most else "")
        best: Annotation | None = None
        least = np.inf
        for place in PLACES:
            found = _name_point(axes, metric, method, text, place)
            box = Text.get_window_extent(found)  # without its leader, which may cross anything
            outside = not (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1))
            crossed = [curve for curve in curves if curve.intersects_bbox(box, filled=False)]
            hits = 9 * outside + len(crossed) + sum(box.overlaps(other) for other in taken)
            loser = found if hits >= least else best
            if loser is not None:
                loser.remove()
            if hits < least:
                best, least = found, hits
            if not hits:
                break
        if best is not None:
            taken.append(Text.get_window_extent(best))


def _name_point(
    axes: Axes, metric: Metric, method: MethodResult, text: str, place: tuple[float, float]
) -> Annotation:
    """``text`` beside the method's point, above or below its interval; its position is computed."""
    right, up = place
    heights = _heights(axes, metric, method.mean_score)
    found = axes.annotate(
        text,
        (method.adapt_seconds, heights[int(np.sign(up)) + 1]),
        place,
        textcoords="offset points",
        ha=("center", "left", "right")[int(np.sign(right))],
        va=("center", "bottom", "top")[int(np.sign(up))],
        color=COLOURS[method.role],
        weight="bold" if method.role == "forward" else "normal",
        in_layout=False,  # names follow the layout, they do not change it
        arrowprops=LEADER if np.hypot(right, up) > 22 else None,
    )
    found.get_window_extent()
    return found


def _heights(axes: Axes, metric: Metric, score: Interval) -> tuple[float, float, float]:
    """Where a point's interval begins, the point, and where it ends; nothing lies below the axis."""
    low, mean, high = (metric.scale * (score.mean + sign * score.ci95) for sign in (-1, 0, 1))
    return max(low, axes.get_ylim()[0]), mean, high


def _point_box(axes: Axes, metric: Metric, method: MethodResult) -> Any:
    """What a point and its interval cover, in display pixels."""
    from matplotlib.transforms import Bbox

    low, _, high = _heights(axes, metric, method.mean_score)
    ends = [(method.adapt_seconds, height) for height in (low, high)]
    return Bbox(axes.transData.transform(ends)).padded(5)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, MethodResult]]) -> None:
    """Write names to the right of where lines end, ``(x, y, method)`` each, pushed apart where too close."""
    scaled = axes.yaxis.get_transform().transform
    low, high = scaled(np.asarray(axes.get_ylim()))
    gap = 0.055
    ordered = sorted(ends, key=lambda end: end[1])
    heights = [float((scaled(np.asarray(y)) - low) / (high - low)) for _, y, _ in ordered]
    for _ in range(100):  # two neighbours that are too close each give way by half, until all have room
        for index in range(len(heights) - 1):
            short = gap - (heights[index + 1] - heights[index])
            if short > 0:
                heights[index] -= short / 2
                heights[index + 1] += short / 2
    for height, (x, y, method) in zip(heights, ordered, strict=True):
        axes.annotate(
            label(method).removeprefix("the "),
            (x, y),
            (1.05, height),
            textcoords="axes fraction",
            color=COLOURS[method.role],
            weight="bold" if method.role == "forward" else "normal",
            va="center",
            arrowprops={**LEADER, "color": COLOURS[method.role], "alpha": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
