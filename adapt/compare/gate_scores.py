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
    adapter: FewShotAdapter, task: FittedTask, episode: Episode, metric: Metric, device: torch.device
) -> dict[str, float]:
    """Scores of ``adapter``, which has been fitted to a ``task``, by what is asked.

    Raises:
        AdaptError: it diverged.
    """
    support, labels = episode.support_x.to(device), episode.support_y.to(device)
    episode = episode._replace(query_x=episode.query_x.to(device), query_y=episode.query_y.to(device))
    robust = Robustness.of(task.logits, episode, metric, getattr(adapter.backbone, "pad", None))
    if not metric.share:
        return _finite({WORSE_VALUES: robust.worse[0]}, episode)
    known = Reliability.of(task.logits(episode.query_x), episode.query_y)
    found = {NLL: known.nll[0], BRIER: known.brier[0], WORSE: robust.worse[0]}
    if robust.outside:
        found[APART] = robust.outside[0]
    ways = len(episode.meta.classes)
    if ways > 1 and len(labels) >= ENOUGH * ways:
        wrong = adapter.fit(support, flipped(labels, ways, episode.meta.index))
        found[WRONG] = metric.measure(wrong.logits(episode.query_x), episode.query_y)
    return _finite(found, episode)


def flipped(labels: torch.Tensor, ways: int, seed: int) -> torch.Tensor:
    """``labels [n]`` of which a fifth are another class, the same ones for every version.

    Example:
        >>> bool((flipped(torch.zeros(10, dtype=torch.int64), 3, seed=0) > 0).sum() == 2)
        True
    """
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.choice(len(labels), round(FLIPPED * len(labels)), replace=False))
    found = labels.clone()
    found[rows] = (found[rows] + torch.from_numpy(rng.integers(1, ways, len(rows))).to(labels)) % ways
    return found


def _finite(found: dict[str, float], episode: Episode) -> dict[str, float]:
    for name, score in found.items():
        if not math.isfinite(score):
            raise AdaptError(f"an adapter diverged on task {episode.meta.index} ({name} {score})")
    return found
