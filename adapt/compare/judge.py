"""What is looked at of what a method predicts of the queries of a task."""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.adapter import Predictor
from adapt.compare.metric import Metric
from adapt.compare.queries import predicted
from adapt.compare.reliability import Reliability
from adapt.compare.robustness import Robustness
from adapt.errors import AdaptError
from tasks import Episode

__all__ = ["EVERYTHING", "Evaluate", "Judge"]


class Evaluate(NamedTuple):
    """What is measured of every method besides its score: how far its probabilities may be believed, where
    tasks have classes, and how it does on worse queries."""

    calibration: bool = True
    robustness: bool = True


EVERYTHING = Evaluate()


@dataclass(frozen=True)
class Judge:
    """Looks at what a method predicts of the queries of a task."""

    name: str
    metric: Metric
    pad: int | None
    evaluate: Evaluate

    def scores(self, predictor: Predictor, episode: Episode) -> tuple[Tensor, Tensor]:
        """Of each query ``[m]``, and the outputs ``[m, C]``."""
        with torch.no_grad():
            outputs = predicted(predictor, episode.query_x, self.pad)
            each = self.metric.each(outputs, episode.query_y)
        if not math.isfinite(score := float(each.mean())):
            raise AdaptError(
                f"{self.name} diverged on task {episode.meta.index} ({self.metric.noun} {score}): smaller "
                "steps may help, or leave it out"
            )
        return each, outputs

    def whole(
        self, predictor: Predictor, episode: Episode
    ) -> tuple[Tensor, Reliability | None, Robustness | None]:
        """All that there is to say at the end."""
        each, outputs = self.scores(predictor, episode)
        reliability = robustness = None
        if self.evaluate.calibration and self.metric.share:
            reliability = Reliability.of(outputs, episode.query_y)
        if self.evaluate.robustness:
            with torch.no_grad():
                again = partial(predicted, predictor, pad=self.pad)
                robustness = Robustness.of(again, episode, self.metric, self.pad, outputs)
        return each, reliability, robustness
