"""Scores against the number of labelled examples, from several comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.examples import Examples
from adapt.compare.figures.names import label_ends
from adapt.compare.figures.numbers import log_range
from adapt.compare.figures.style import COLOURS, DASHES, MARKERS, empty_figure, score_axis, title
from adapt.compare.statistics import Interval, mean_interval
from adapt.compare.verdict import per_class
from adapt.errors import AdaptError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["score_against_shots"]


def score_against_shots(comparisons: Sequence[Comparison]) -> Figure:
    """Accuracy (%) or squared error, with 95 % intervals, against shots (log), a line per method.

    Tasks of all seeds are pooled, and examples that they share count once.

    Raises:
        AdaptError: nothing to draw, scores of different kinds, or two comparisons of the same shots, seed and
            method: pooling them would count tasks twice or mix settings.
    """
    pooled = _pool(comparisons)
    metric, task = comparisons[0].metric, comparisons[0].task
    with empty_figure() as (figure, axes):
        axes.set_xscale("log")
        ticks = sorted({shots for results in pooled.values() for shots in results})
        axes.set_xlim(*log_range(ticks, 0.05))
        ends: list[tuple[float, float, MethodResult]] = []
        drawn: Counter[str] = Counter()
        lines = {
            name: {shots: _together(found) for shots, found in results.items()}
            for name, results in pooled.items()
        }
        score_axis(axes, metric, [point.mean for line in lines.values() for point in line.values()])
        for rank, (name, results) in enumerate(pooled.items()):
            role = next(iter(results.values()))[0].role
            shots = sorted(results)
            scores = [metric.scale * lines[name][s].mean for s in shots]
            errors = [metric.scale * (lines[name][s].ci95 or 0.0) for s in shots]
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
        axes.set_title(title(comparisons[0], f"{task['ways']}-way" if per_class(task) else ""))
        label_ends(axes, ends)
        return figure


def _together(results: Sequence[MethodResult]) -> Interval:
    """The mean over the tasks of all seeds."""
    scores = [score for result in results for score in result.score]
    examples = Examples.joined([result.examples for result in results])
    return mean_interval(scores, examples, shares=all(result.share for result in results))


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
