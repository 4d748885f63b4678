"""How near an example is to the nearest class.

    d_c(f) = (f − μ_c)ᵀ Σ⁻¹ (f − μ_c) / D ,   Σ = S / n + β I ,   S = Σ_i r_i r_iᵀ ,   r_i = f_i − μ_{y_i}

for features of length √D. Lee, Lee, Lee, Shin (2018), *A Simple Unified Framework for Detecting
Out-of-Distribution Samples and Adversarial Attacks*, equations 1 and 2; β, which they do not need, is of few
examples. Without example i of n_c of its class, with a = n_c / (n_c − 1):

    S₋ᵢ = S − a r_i r_iᵀ ,   f_i − μ₋ᵢ = a r_i

so that all of them follow from one singular value decomposition of the r_i (Sherman and Morrison 1950).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adapt.heads.base import normalise
from adapt.precision import double

__all__ = ["Nearness"]

#: β, in units of the mean square of a feature.
LEAST = 1.0


class Nearness(NamedTuple):
    """Of classes with means ``[C, D]``: ``axes [r, D]`` and ``lengths [r]`` of S, the ``n`` examples."""

    means: Tensor
    axes: Tensor
    lengths: Tensor
    n: int

    @classmethod
    def of(cls, features: Tensor, targets: Tensor) -> Nearness:
        """From ``features [n, D]`` with one-hot ``targets [n, C]``, at least one of every class."""
        features, targets = normalise(double(features)), double(targets)
        means = (targets.T @ features) / targets.sum(0)[:, None]
        _, lengths, axes = torch.linalg.svd(features - targets @ means, full_matrices=False)
        return cls(means, axes, lengths, len(features))

    def near(self, features: Tensor) -> Tensor:
        """−min_c d_c for ``features [m, D]``: ``[m]``, float64."""
        return -self._distances(normalise(double(features)), self.n).amin(1)

    def left_out(self, features: Tensor, targets: Tensor) -> Tensor:
        """The same of the examples that it is made of, each without itself; two of every class at least."""
        features, targets = normalise(double(features)), double(targets)
        n, counts = self.n - 1, targets @ targets.sum(0)
        a = counts / (counts - 1)
        r = features - targets @ self.means
        moved = self._inverse(r, n)  # Σ⁻¹ r_i
        own = (moved * r).sum(1)
        left = 1 - a * own / n
        others = self._distances(features, n, plain=True)
        across = (moved * features).sum(1, keepdim=True) - moved @ self.means.T  # r_iᵀ Σ⁻¹ (f_i − μ_c)
        others = others + (a / (n * left))[:, None] * across.square()
        found = torch.where(targets > 0, (a.square() * own / left)[:, None], others)
        return -found.amin(1) / features.shape[1]

    def _inverse(self, rows: Tensor, n: int) -> Tensor:
        """Σ⁻¹ of each row ``[m, D]``, of S with divisor ``n``."""
        spread = self.lengths.square() / max(n, 1)
        return (rows - ((rows @ self.axes.T) * (spread / (spread + LEAST))) @ self.axes) / LEAST

    def _distances(self, rows: Tensor, n: int, *, plain: bool = False) -> Tensor:
        """d_c ``[m, C]``; ``plain``: times D."""
        moved, means = self._inverse(rows, n), self._inverse(self.means, n)
        found = (moved * rows).sum(1)[:, None] - 2 * rows @ means.T + (means * self.means).sum(1)
        return found if plain else found / rows.shape[1]
