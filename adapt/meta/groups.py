"""Groups of tasks, and what tells them apart.

    min Σ_t ‖a_t − μ_{g(t)}‖² ,   a the leading principal components of s̃ = (s − s̄) / σ        (k-means)
    R [s; 1] = τ (μ̃_mᵀ s̃ − ½ ‖μ̃_m‖²)                                              (linear discriminant)

Lloyd (1982), *Least Squares Quantization in PCM*; Arthur and Vassilvitskii (2007), *k-means++*, of whose
starts the best one that leaves no group a handful of tasks is taken. The discriminant is that of Fisher
(1936) with σ for the deviations within; τ makes it so soft that training can still change its mind.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adapt.errors import AdaptError

__all__ = ["discriminant", "groups_of"]

#: Principal components, starts of k-means, and rounds of each.
AXES, STARTS, ROUNDS = 8, 20, 50
#: Of the tasks of a group, were all as large, those that a group has at least, if it can be had.
SMALLEST = 1 / 3
#: Logit by which the nearest group leads, on the average over tasks: a share of 0.95 of two.
LEAD = 3.0


def groups_of(summaries: Tensor, count: int, seed: int = 0) -> Tensor:
    """The group of every task ``[T]``, 0 … ``count`` − 1, none of them empty, for ``summaries [T, F]``; needs
    the package scipy.

    Raises:
        AdaptError: fewer tasks that differ than groups.

    Example:
        >>> groups_of(torch.tensor([[0.0], [0.1], [5.0]]), 2).tolist()
        [0, 0, 1]
    """
    from scipy.cluster.vq import ClusterError, kmeans2

    scaled = (summaries - summaries.mean(0)).double() / _deviation(summaries)
    left, lengths, _ = torch.linalg.svd(scaled, full_matrices=False)
    points = (left * lengths)[:, :AXES].cpu().numpy()
    differ = len(np.unique(points.round(6), axis=0))
    if differ < count:
        raise AdaptError(
            f"meta.subspaces={count}: only {differ} of the {len(points)} tasks that make the first basis "
            "differ: set fewer, or more meta.basis_tasks"
        )
    found = []
    for start in range(STARTS):
        try:
            rng = np.random.default_rng([seed, start])
            centres, own = kmeans2(points, count, ROUNDS, minit="++", missing="raise", seed=rng)
        except ClusterError:  # a group was left without tasks
            continue
        least = np.bincount(own, minlength=count).min()
        cost = float(np.square(points - centres[own]).sum())
        found.append((min(least, SMALLEST * len(points) / count), -cost, own))
    if not found:
        raise AdaptError(f"meta.subspaces={count}: so many groups of tasks are not to be found: set fewer")
    own = max(found, key=lambda it: it[:2])[2]
    order = {number: place for place, number in enumerate(dict.fromkeys(own.tolist()))}  # by the first task
    return torch.tensor([order[number] for number in own.tolist()], device=summaries.device)


def discriminant(summaries: Tensor, groups: Tensor) -> Tensor:
    """R ``[M, F + 1]``, which gives a task of a group the greatest logit for it, mostly."""
    deviation, count = _deviation(summaries), int(groups.max()) + 1
    scaled, origin = summaries / deviation, summaries.mean(0) / deviation
    centres = torch.stack([scaled[groups == number].mean(0) for number in range(count)]) - origin  # [M, F]
    logits = (scaled - origin) @ centres.T - 0.5 * centres.square().sum(1)
    own = logits.gather(1, groups[:, None]).squeeze(1)
    others = logits.scatter(1, groups[:, None], -torch.inf).amax(1)
    soft = LEAD / (own - others).mean().clamp(min=LEAD)  # never harder than it is
    bias = -centres @ origin - 0.5 * centres.square().sum(1)
    return soft * torch.cat([centres / deviation, bias[:, None]], 1)


def _deviation(summaries: Tensor) -> Tensor:
    deviation = summaries.std(0, correction=0)
    return torch.where(deviation > 1e-6, deviation, 1)
