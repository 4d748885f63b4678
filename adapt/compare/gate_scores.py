"""What the regression gate asks of a version besides its score, task by task."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.compare.metric import ACCURACY, MSE, Metric
from adapt.compare.reliability import Reliability
from adapt.compare.robustness import Robustness
from adapt.errors import AdaptError
from tasks import Episode
from tasks.label_noise import noisy

__all__ = ["BRIER", "NLL", "TRUSTED", "trusted"]

NLL, BRIER, WORSE, APART, WRONG = "−log p", "Brier", "worse queries", "others told apart", "wrong labels"
WORSE_VALUES = "worse queries, MSE"
#: Share of labels that are changed, and examples of every class from which on they are.
FLIPPED, ENOUGH = 0.2, 5
_ERROR = replace(MSE, log_axis=False)
#: Scores by what is asked. Of −log p, as of other errors, the tolerance is a share; of Brier it is a number.
TRUSTED: dict[str, Metric] = {
    NLL: replace(_ERROR, name="nll", noun=NLL, difference_unit=NLL),
    BRIER: replace(_ERROR, name="brier", noun=BRIER, difference_unit=BRIER, most=2.0),
    WORSE: ACCURACY,
    WORSE_VALUES: MSE,
    APART: replace(ACCURACY, name="auroc", noun="AUROC", share=False),
    WRONG: ACCURACY,
}


def trusted(
    adapter: FewShotAdapter,
    task: FittedTask,
    outputs: torch.Tensor,
    episode: Episode,
    metric: Metric,
    device: torch.device,
) -> dict[str, float]:
    """Scores of ``adapter``, which has been fitted to a ``task`` with ``outputs [m, C]`` for the queries, by
    what is asked.

    Raises:
        AdaptError: it diverged.
    """
    episode = episode._replace(query_x=episode.query_x.to(device), query_y=episode.query_y.to(device))
    pad = getattr(adapter.backbone, "pad", None)
    robust = Robustness.of(task.logits, episode, metric, pad, outputs)
    if not metric.share:
        return _finite({WORSE_VALUES: robust.worse[0]}, episode)
    known = Reliability.of(outputs, episode.query_y)
    found = {NLL: known.nll[0], BRIER: known.brier[0], WORSE: robust.worse[0]}
    if robust.outside:
        found[APART] = robust.outside[0]
    ways = len(episode.meta.classes)
    if ways > 1 and len(episode.support_y) >= ENOUGH * ways:
        planted = noisy(episode, FLIPPED, np.random.default_rng(episode.meta.index))
        wrong = adapter.fit(planted.support_x.to(device), planted.support_y.to(device))
        found[WRONG] = metric.measure(wrong.logits(episode.query_x), episode.query_y)
    return _finite(found, episode)


def _finite(found: dict[str, float], episode: Episode) -> dict[str, float]:
    for name, score in found.items():
        if not math.isfinite(score):
            raise AdaptError(f"an adapter diverged on task {episode.meta.index} ({name} {score})")
    return found
