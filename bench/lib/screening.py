"""What a classifier of the sick and the healthy is worth beside its accuracy: how many of the sick it finds
when a tenth of the healthy may be sent on for nothing, and whether its probabilities are what they say."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from bench.lib.choosing import outputs_of
from bench.lib.posterior_classes import calibration_error
from bench.lib.record import Row
from tasks import Distribution, Episode

__all__ = ["FOUND", "screened"]

#: Of the healthy, that may be taken for sick.
ALARMS = 0.1
FOUND = "eval/sensitivity"


class Screened(NamedTuple):
    """Of one task the share of the sick found, and of each query how sure it was and whether right."""

    found: float
    sure: np.ndarray
    right: np.ndarray


def screened(case: str, sick: str, ways: Mapping[str, Distribution], number: int) -> Iterator[Row]:
    """Rows of every way to features, on the same tasks of two classes; the first is what others are compared
    with. ``sick``: the class to be found."""
    first = next(iter(ways))
    examples = Examples.of(episode.meta for episode in ways[first].episodes(0, number))
    before = np.empty(0)
    for name, tasks in ways.items():
        each = [_screened(episode, sick) for episode in tasks.episodes(0, number)]
        found = np.array([it.found for it in each])
        yield Row.of(f"{case}: {name}", FOUND, mean_interval(found, examples).times(100), "%")
        error = calibration_error(
            *(np.concatenate(column) for column in zip(*(it[1:] for it in each), strict=True))
        )
        yield Row.cost(f"{case}: {name}", "eval/calibration_error", error, "%", n=number)
        if name == first:
            before = found
        else:
            gap = paired_difference(found, before, examples).times(100)
            yield Row.of(f"{case}: {name}", "compare/sensitivity_vs_frozen", gap, "points")


def _screened(episode: Episode, sick: str) -> Screened:
    from sklearn.metrics import roc_curve

    probabilities = outputs_of(episode).softmax(-1).double().numpy()
    truth, place = episode.query_y.numpy(), episode.meta.classes.index(sick)
    alarms, hits, _ = roc_curve(truth == place, probabilities[:, place])
    right = (probabilities.argmax(1) == truth).astype(float)
    return Screened(float(hits[alarms <= ALARMS].max()), probabilities.max(1), right)
