"""Names of methods beside their points and at the ends of their lines, none on top of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapt.compare.comparison import MethodResult
from adapt.compare.figures.style import COLOURS, LEADER, heights, lay_out, name_of, weight
from adapt.compare.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = ["label_ends", "label_points"]

#: Where a point's name may stand: offsets (right, up) in printer's points, preferred ones first.
PLACES = [
    (right * distance, up * distance)
    for distance in (6, 9, 14, 24, 36, 50)
    for right, up in ((1.5, 0), (0, 1), (0, -1), (-1.5, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
]


def label_points(
    figure: Figure, axes: Axes, metric: Metric, points: Sequence[tuple[float, MethodResult]]
) -> None:
    """Write the name of every method (``(x, method)`` each; its height is its score) in the nearest place to
    its point that is free, or the least crowded one."""
    from matplotlib.text import Text

    lay_out(figure)
    frame, most = axes.get_window_extent(), max(method.n for _, method in points)
    taken = [_point_box(axes, metric, *point) for point in points]
    curves = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
    for x, method in sorted(points, key=lambda point: -metric.gain(point[1].mean_score.mean)):
        text = name_of(method, most)
        best: Annotation | None = None
        least = np.inf
        for place in PLACES:
            found = _name_point(axes, metric, x, method, text, place)
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
    axes: Axes, metric: Metric, x: float, method: MethodResult, text: str, place: tuple[float, float]
) -> Annotation:
    """``text`` beside the method's point, above or below its interval; its position is computed."""
    right, up = place
    height = heights(axes, metric, method.mean_score)[int(np.sign(up)) + 1]
    found = axes.annotate(
        text,
        (x, height),
        place,
        textcoords="offset points",
        ha=("center", "left", "right")[int(np.sign(right))],
        va=("center", "bottom", "top")[int(np.sign(up))],
        color=COLOURS[method.role],
        weight=weight(method),
        in_layout=False,  # names follow the layout, they do not change it
        arrowprops=LEADER if np.hypot(right, up) > 22 else None,
    )
    found.get_window_extent()
    return found


def _point_box(axes: Axes, metric: Metric, x: float, method: MethodResult) -> Any:
    """What a point and its interval cover, in display pixels."""
    from matplotlib.transforms import Bbox

    low, _, high = heights(axes, metric, method.mean_score)
    return Bbox(axes.transData.transform([(x, low), (x, high)])).padded(5)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, MethodResult]]) -> None:
    """Write names to the right of where lines end, ``(x, y, method)`` each, pushed apart where too close."""
    scaled = axes.yaxis.get_transform().transform
    low, high = scaled(np.asarray(axes.get_ylim()))
    gap = 0.055
    ordered = sorted(ends, key=lambda end: end[1])
    places = [float((scaled(np.asarray(y)) - low) / (high - low)) for _, y, _ in ordered]
    for _ in range(100):  # two neighbours that are too close each give way by half, until all have room
        for index in range(len(places) - 1):
            short = gap - (places[index + 1] - places[index])
            if short > 0:
                places[index] -= short / 2
                places[index + 1] += short / 2
    for place, (x, y, method) in zip(places, ordered, strict=True):
        axes.annotate(
            name_of(method),
            (x, y),
            (1.05, place),
            textcoords="axes fraction",
            color=COLOURS[method.role],
            weight=weight(method),
            va="center",
            arrowprops={**LEADER, "color": COLOURS[method.role], "alpha": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
