"""Nearest class mean.

    μ_c = mean of the support features of class c
    euclidean:  logits_c(f) = −‖f − μ_c‖² / (2 τ D)
    cosine:     logits_c(f) = cos(f, μ_c) / τ

Snell, Swersky, Zemel (2017), *Prototypical Networks for Few-shot Learning*, equations 1 and 2. Leave-one-out
logits put the example aside from its own class mean: μ_c^(−i) = (n_c μ_c − f_i)/(n_c − 1); without that an
example is part of its own prototype and the support loss is degenerate. Difference to the paper: features are
normalised, and the temperature τ is explicit. Cosine: Gidaris and Komodakis (2018), *Dynamic Few-Shot Visual
Learning without Forgetting*, equation 3; Chen et al. (2019), *A Closer Look at Few-shot Classification*,
section 3.3. It forgets how long a mean is: classes whose examples differ among themselves have a shorter one.

``center``: "median" and "trimmed" are those of :mod:`adapt.heads.centers`, which a few examples that are none
of the class do not move far.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from adapt.checks import check_settings, positive
from adapt.errors import AdaptError
from adapt.heads.base import check_features, normalise
from adapt.heads.centers import Center, centers, centers_left_out, counted
from adapt.precision import double, full_precision

__all__ = ["Prototype"]


@dataclass(frozen=True)
class Prototype:
    """``temperature`` τ > 0 sets how sharp the probabilities are, not which class wins; ``metric`` is
    "euclidean" or "cosine"; ``center`` is "mean", "median" or "trimmed".

    Example:
        >>> import torch
        >>> head = Prototype()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1]])).argmax().item()
        0
    """

    temperature: float = 0.1
    metric: Literal["euclidean", "cosine"] = "euclidean"
    center: Center = "mean"
    supports_regression: bool = False

    def __post_init__(self) -> None:
        check_settings(self, "head", temperature=positive("a temperature must be positive"))
        if self.metric not in ("euclidean", "cosine"):
            raise AdaptError(f"head.metric={self.metric}: choose euclidean or cosine")
        if self.center not in get_args(Center):
            raise AdaptError(f"head.center={self.center}: choose {', '.join(get_args(Center))}")

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Class means ``[C, D]``; a class without examples gets the zero vector."""
        check_features(features, weights)
        if self.center != "mean":
            return centers(normalise(features), counted(targets, weights), self.center)
        if weights is not None:
            targets = targets * weights[:, None]
        return targets.T @ normalise(features) / targets.sum(0).clamp(min=1)[:, None]

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[C, D]``."""
        return outputs, features

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` scaled negative squared distances (by matmul: ``torch.cdist`` has no forward mode)."""
        f = normalise(features)
        if self.metric == "cosine":
            return self._cosine(f @ state.T, f, state.square().sum(-1))
        distances = f.square().sum(-1, keepdim=True) - 2 * f @ state.T + state.square().sum(-1)
        return -distances / (2 * self.temperature * features.shape[-1])

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``; for a class of one example nothing is left, and its own logit is that of the zero
        vector."""
        if self.center != "mean":
            return self._left_out(features, targets, weights)
        if weights is not None:
            targets = targets * weights[:, None]
        cosine = self.metric == "cosine"  # of short sums little is left below but rounding: in float64
        f, targets = (
            (normalise(double(features)), double(targets)) if cosine else (normalise(features), targets)
        )
        count = targets.sum(0)  # [C]
        sums = targets.T @ f  # [C, D]
        left = (count - targets).clamp(min=1)  # [n, C]
        # ‖f_i − (s_c − y_ic f_i)/m_ic‖² multiplied out: no array [n, C, D] of class sums without example i.
        length, inner = f.square().sum(-1, keepdim=True), f @ sums.T  # [n, 1], [n, C]
        cross = inner - targets * length  # f_i · (s_c − y_ic f_i)
        own = sums.square().sum(-1) - 2 * targets * inner + targets.square() * length  # ‖s_c − y_ic f_i‖²
        if cosine:  # of a class of one nothing is left but rounding
            rounding = 100 * torch.finfo(own.dtype).eps * features.shape[-1] * count.square()
            some = (count - targets > 0.5) & ~(own <= rounding)  # NaN stays
            own = torch.where(some, own / left.square(), 0)
            return self._cosine(torch.where(some, cross / left, 0), f, own).to(features.dtype)
        distances = length - 2 * cross / left + own / left.square()
        return -distances / (2 * self.temperature * features.shape[-1])

    def _left_out(self, features: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        f, members = normalise(features), counted(targets, weights)
        logits = self.logits(self.fit(features, targets, weights), features)
        own = centers_left_out(f, members, self.center)
        return torch.where(members, self._pairs(f, own)[:, None], logits)

    def _pairs(self, f: Tensor, centers: Tensor) -> Tensor:
        """The logit of each row ``f [m, D]`` for the center in the same row ``[m]``."""
        if self.metric == "cosine":
            inner, squared = (f * centers).sum(-1, keepdim=True), centers.square().sum(-1, keepdim=True)
            return self._cosine(inner, f, squared).squeeze(-1)
        return -(f - centers).square().sum(-1) / (2 * self.temperature * f.shape[-1])

    def _cosine(self, inner: Tensor, f: Tensor, squared: Tensor) -> Tensor:
        """Logits ``[m, C]`` from inner products with means, rows ``f [m, D]`` and squared lengths of
        means; 0 where a row or a mean is no longer than the rounding of rows of length √D."""
        least = f.shape[-1] * (10 * torch.finfo(f.dtype).eps) ** 2
        own = f.square().sum(-1, keepdim=True)
        some = ~((own <= least) | (squared <= least))  # NaN stays
        return torch.where(some, inner, 0) * torch.where(some, own * squared, 1).rsqrt() / self.temperature
