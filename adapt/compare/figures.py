"""Accuracy against seconds and against shots, drawn without pyplot: no global figure, no window.

matplotlib is imported inside the functions: comparing needs it only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.statistics import mean_interval
from adapt.compare.verdict import label, seconds_text
from adapt.errors import AdaptError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = ["accuracy_against_seconds", "accuracy_against_shots", "mean_curve", "save"]

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


def accuracy_against_seconds(comparison: Comparison) -> Figure:
    """Accuracy (%, 95 % interval) against seconds to adapt (log), a point per method.

    A watched method (retraining) also shows its mean accuracy over time, as a line that ends at its point.
    """
    with _figure() as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlim(*_log_range([method.adapt_seconds for method in comparison.methods.values()]))
        axes.set_ylim(*_percent_range(comparison.methods.values()))
        for method in comparison.methods.values():
            colour, accuracy = COLOURS[method.role], method.mean_accuracy
            if method.curves:
                curve = mean_curve(method.curves)
                percent = [100 * value for value in curve.accuracy]
                axes.plot(curve.seconds, percent, color=colour, lw=1.3, alpha=0.6, zorder=1)
            axes.errorbar(
                method.adapt_seconds,
                100 * accuracy.mean,
                100 * accuracy.ci95 if accuracy.n > 1 else None,
                fmt=MARKERS[method.role],
                color=colour,
                ms=8 if method.role == "forward" else 6,
                elinewidth=1.4,
                capsize=2.5,
                zorder=3,
            )
        axes.xaxis.set_major_formatter(lambda value, _: seconds_text(value).replace(".0 ", " "))
        axes.set_xlabel("time to adapt to one task, median (log scale)")
        axes.set_ylabel("accuracy on the queries, %")
        axes.set_title(_title(comparison))
        _label_points(figure, axes, list(comparison.methods.values()))
        return figure


def accuracy_against_shots(comparisons: Sequence[Comparison]) -> Figure:
    """Accuracy (%, 95 % interval) against shots (log), a line per method; tasks of all seeds are pooled.

    Raises:
        AdaptError: nothing to draw, or two comparisons of the same shots, seed and method: pooling them would
            count tasks twice or mix settings.
    """
    pooled = _pool(comparisons)
    with _figure() as (figure, axes):
        axes.set_xscale("log")
        ticks = sorted({shots for results in pooled.values() for shots in results})
        axes.set_xlim(*_log_range(ticks, 0.05))
        ends: list[tuple[float, float, MethodResult]] = []
        heads = 0
        for rank, results in enumerate(pooled.values()):
            role = next(iter(results.values()))[0].role
            shots = sorted(results)
            intervals = [mean_interval([a for result in results[s] for a in result.accuracy]) for s in shots]
            accuracy = [100 * interval.mean for interval in intervals]
            errors = [100 * interval.ci95 for interval in intervals]
            # Methods stand next to each other, so that their intervals do not hide one another.
            places = np.asarray(shots) * 1.015 ** (rank - (len(pooled) - 1) / 2)
            dash = DASHES[heads % len(DASHES)] if role == "head" else "-"
            heads += role == "head"
            axes.errorbar(
                places,
                accuracy,
                errors,
                fmt=MARKERS[role],
                ls=dash,
                color=COLOURS[role],
                ms=6 if role == "forward" else 4.5,
                lw=2 if role == "forward" else 1.3,
                elinewidth=1.2,
                capsize=2,
            )
            ends.append((places[-1], accuracy[-1], results[shots[-1]][0]))
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("shots: labelled examples per class (log scale)")
        axes.set_ylabel("accuracy on the queries, %")
        axes.set_title(_title(comparisons[0], shots=False))
        _label_ends(axes, ends)
        return figure


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean accuracy and median seconds over tasks, look by look.

    Tasks with more data have more looks; all are read at the same fractions of their own budget, so that
    every task counts everywhere and the curve ends where the method ends.
    """
    length = min(len(curve.seconds) for curve in curves)
    rows = [np.linspace(0, len(curve.seconds) - 1, length).round().astype(int) for curve in curves]
    seconds = [np.asarray(curve.seconds)[row] for curve, row in zip(curves, rows, strict=True)]
    accuracy = [np.asarray(curve.accuracy)[row] for curve, row in zip(curves, rows, strict=True)]
    return Curve(tuple(np.median(seconds, axis=0).tolist()), tuple(np.mean(accuracy, axis=0).tolist()))


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


def _percent_range(methods: Iterable[MethodResult]) -> tuple[float, float]:
    """Limits (%) that show all points; curves that start at chance come in from below."""
    ends = [100 * (m.mean_accuracy.mean + sign * m.mean_accuracy.ci95) for m in methods for sign in (-1, 1)]
    tops = [100 * max(mean_curve(m.curves).accuracy) for m in methods if m.curves]
    margin = max(0.1 * (max(ends) - min(ends)), 0.5)
    return min(ends) - margin, min(max(ends + tops) + margin, 101)


def _log_range(values: Sequence[float], share: float = 0.12) -> tuple[float, float]:
    """Limits of a log axis with room (a ``share`` of the whole) at both ends, also around a single value."""
    room = max((max(values) / min(values)) ** share, 1.1)
    return min(values) / room, max(values) * room


def _title(comparison: Comparison, *, shots: bool = True) -> str:
    task = comparison.task
    size = f"{task['ways']}-way {task['shots']}-shot" if shots else f"{task['ways']}-way"
    return f"{comparison.experiment}: {size} {task['source']}, {comparison.device}"


def _label_points(figure: Figure, axes: Axes, methods: Sequence[MethodResult]) -> None:
    """Write every method's name in the nearest place to its point that is free, or the least crowded one."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    frame, most = axes.get_window_extent(), max(method.n for method in methods)
    taken = [_point_box(axes, method) for method in methods]
    curves = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
    for method in sorted(methods, key=lambda method: -method.mean_accuracy.mean):
        text = label(method).removeprefix("the ") + (f" ({method.n} tasks)" if method.n < most else "")
        best: Annotation | None = None
        least = np.inf
        for place in PLACES:
            found = _name_point(axes, method, text, place)
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


def _name_point(axes: Axes, method: MethodResult, text: str, place: tuple[float, float]) -> Annotation:
    """``text`` beside the method's point, above or below its interval; its position is computed."""
    right, up = place
    accuracy = method.mean_accuracy
    found = axes.annotate(
        text,
        (method.adapt_seconds, 100 * (accuracy.mean + np.sign(up) * accuracy.ci95)),
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


def _point_box(axes: Axes, method: MethodResult) -> Any:
    """What a point and its interval cover, in display pixels."""
    from matplotlib.transforms import Bbox

    accuracy = method.mean_accuracy
    ends = [(method.adapt_seconds, 100 * (accuracy.mean + sign * accuracy.ci95)) for sign in (-1, 1)]
    return Bbox(axes.transData.transform(ends)).padded(5)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, MethodResult]]) -> None:
    """Write names to the right of where lines end, ``(x, y, method)`` each, pushed apart where too close."""
    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)
    ordered = sorted(ends, key=lambda end: end[1])
    heights = [y for _, y, _ in ordered]
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
            textcoords=axes.get_yaxis_transform(),
            color=COLOURS[method.role],
            weight="bold" if method.role == "forward" else "normal",
            va="center",
            arrowprops={**LEADER, "color": COLOURS[method.role], "alpha": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
