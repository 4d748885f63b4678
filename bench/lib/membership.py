"""Whether an example is one of those that a released task was fitted to, by its likelihood ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from adapt.backbones import call
from adapt.heads import one_hot

__all__ = ["ratios"]

#: Probabilities nearer to 0 or 1 count as these.
LEAST = 1e-6


def ratios(case: Any, shots: int, index: int, *, shadows: int) -> tuple[np.ndarray, np.ndarray]:
    """How probable it is that each is a member: of members ``[n]``, and of as many others of the classes.

    Of a head on a network as it is. The attacker has examples of the same classes that the task has not seen,
    fits the same head to ``shadows`` draws of these, and knows how confident such heads are of an example
    that they have not seen: normal, in units of log p / (1 − p). He has no fit with the example in it, as it
    is the target's own.
    """
    ways = 5
    tasks = case.tasks
    drawn = type(tasks)(
        tasks.source,
        ways,
        shots,
        2 * shots,
        support_split=tasks.support_split,
        query_split=tasks.query_split,
        seed=77,
    )
    episode = drawn.episode(index)
    head = case.adapter.head
    with torch.no_grad():
        parameters = case.adapter.subspace.parameters(
            case.adapter.state.origin.new_zeros(case.adapter.state.k)
        )
        seen, new = (call(case.adapter.backbone, parameters, x) for x in (episode.support_x, episode.query_x))
    labels, further = episode.support_y, episode.query_y
    place = torch.arange(len(further)) % (2 * shots)  # class by class
    others, known = place < shots, place >= shots
    candidates = torch.cat([seen, new[others]])
    classes = torch.cat([labels, further[others]])
    target = _confidence(head, seen, labels, candidates, classes, ways)
    pool_x, pool_y = new[known], further[known]
    generator = torch.Generator().manual_seed(index)
    without = []
    for _ in range(shadows):
        rows = torch.randint(len(pool_x), (ways * shots,), generator=generator)
        first = torch.stack([(pool_y == c).nonzero()[0, 0] for c in range(ways)])  # one of every class
        rows = torch.cat([first, rows[ways:]])
        without.append(_confidence(head, pool_x[rows], pool_y[rows], candidates, classes, ways))
    mean, spread = np.mean(without, 0), np.std(without, 0) + 1e-3
    found = norm.logcdf((target - mean) / spread)
    return found[: len(seen)], found[len(seen) :]


def _confidence(head: Any, x: Tensor, y: Tensor, at: Tensor, labels: Tensor, ways: int) -> np.ndarray:
    """log p / (1 − p) of ``labels`` for ``at``, by the head fitted to ``x`` and ``y``."""
    with torch.no_grad():
        p = head.logits(head.fit(x, one_hot(y, ways)), at).double().softmax(-1)
    own = p[torch.arange(len(at)), labels].clamp(LEAST, 1 - LEAST)
    found: np.ndarray = (own.log() - (1 - own).log()).numpy()
    return found
