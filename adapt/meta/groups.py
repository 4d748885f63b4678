"""Groups of tasks, and what tells them apart.

    min Σ_t ‖s̃_t − μ_{g(t)}‖² ,   s̃ = s / σ                                          (k-means)
    R [s; 1] = τ (μ̃_mᵀ s̃ − ½ ‖μ̃_m‖²)                                              (linear discriminant)

Lloyd (1982), *Least Squares Quantization in PCM*, from points that are far from each other (Gonzalez 1985,
*Clustering to Minimize the Maximum Intercluster Distance*), so that nothing is left to chance. The
discriminant is that of Fisher (1936) with σ for the deviations within; τ makes it so soft that training can
still change its mind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapt.errors import AdaptError

__all__ = ["discriminant", "groups_of"]

ROUNDS = 50
#: Logit by which the nearest group leads, on the average over tasks: a share of 0.95 of two.
LEAD = 3.0


def groups_of(summaries: Tensor, count: int) -> Tensor:
    """The group of every task ``[T]``, 0 … ``count`` − 1, none of them empty, for ``summaries [T, F]``.

    Raises:
        AdaptError: fewer tasks that differ than groups.

    Example:
        >>> groups_of(torch.tensor([[0.0], [0.1], [5.0]]), 2).tolist()
        [0, 0, 1]
    """
    scaled = summaries / _deviation(summaries)
    chosen = [int((scaled - scaled.mean(0)).square().sum(1).argmin())]
    while len(chosen) < count:
        nearest = torch.cdist(scaled, scaled[chosen]).amin(1)
        if not bool(nearest.max() > 0):
            raise AdaptError(
                f"meta.subspaces={count}: only {len(chosen)} of the {len(scaled)} tasks that make the first "
                "basis differ: set fewer, or more meta.basis_tasks"
            )
        chosen.append(int(nearest.argmax()))
    centres = scaled[chosen]
    groups = torch.cdist(scaled, centres).argmin(1)
    for _ in range(ROUNDS):
        centres = torch.stack([scaled[groups == number].mean(0) for number in range(count)])
        there = torch.cdist(scaled, centres).argmin(1)
        if torch.equal(there, groups) or len(there.unique()) < count:
            break
        groups = there
    return groups


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
