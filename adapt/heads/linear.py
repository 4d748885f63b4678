"""Linear classifier trained by gradient descent: the linear probe of fine-tuning.

    V ← β V + ∇ ,  W ← W − (η / D) V ,   ∇ = Xᵀ(P − Y) / n + λ D W ,   from W = V = 0

Alain and Bengio (2016), *Understanding intermediate layers using linear classifier probes*; with momentum and
weight decay as in Chen et al. (2019), *A Closer Look at Few-shot Classification* (Baseline). Full batches,
features normalised, a penalised intercept. With enough steps it arrives at the optimum of
:class:`adapt.heads.Logistic` with ``l2`` = λ n, which gets there in eight Newton steps; few steps are early
stopping, a regularisation of their own.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vmap

from adapt.checks import STEPS, Number, between, check_settings, least, positive
from adapt.errors import AdaptError
from adapt.heads.base import check_features, normalise, with_constant
from adapt.precision import full_precision

__all__ = ["Linear"]

CHUNK = 64  # examples left out at a time: each has weights of its own


@dataclass(frozen=True)
class Linear:
    """``steps`` steps of rate ``lr`` η > 0 with ``momentum`` 0 ≤ β < 1 and weight decay ``l2`` λ ≥ 0.

    Example:
        >>> import torch
        >>> head = Linear()
        >>> state = head.fit(torch.eye(2), torch.eye(2))
        >>> head.logits(state, torch.tensor([[2.0, 0.1]])).argmax().item()
        0
    """

    lr: float = 1.0
    steps: int = 100
    momentum: float = 0.9
    l2: float = 0.001
    supports_regression: bool = False
    #: Whether leaving one example out is training anew without it, for each.
    trains_anew: ClassVar[bool] = True

    def __post_init__(self) -> None:
        converges = "momentum must be in [0, 1) and l2 zero or positive, or the steps do not converge"
        check_settings(
            self,
            "head",
            lr=positive("a learning rate must be positive"),
            steps=least(1, "at least one step is needed", ceiling=STEPS),
            momentum=Number(least=0, below=1, why=converges),
            l2=between(0, None, converges),
        )
        # Of heavy-ball descent: a rate of 2 (1 + β) over the curvature, which is D l2 at least.
        if not self.lr * self.l2 < 2 * (1 + self.momentum):
            raise AdaptError(
                f"head.lr={self.lr}, head.l2={self.l2}: steps diverge unless lr · l2 is less than "
                f"{2 * (1 + self.momentum):g}: lower one of them"
            )

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weights ``[D + 1, C]``, the intercept last."""
        check_features(features, weights)
        x = with_constant(normalise(features))
        return self._train(x, targets, targets.new_ones(len(x)) if weights is None else weights)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[D + 1, C]``."""
        return None if features is None else features + 1, outputs

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` = X W."""
        return with_constant(normalise(features)) @ state

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]`` exactly, by n trainings with one example's weight at zero, batched."""
        x = with_constant(normalise(features))
        keep = 1 - torch.eye(len(x), dtype=x.dtype, device=x.device)  # row i leaves example i out
        keep = keep if weights is None else keep * weights
        fitted = vmap(lambda mask: self._train(x, targets, mask), chunk_size=CHUNK)(keep)  # [n, D + 1, C]
        return torch.einsum("nd,ndc->nc", x, fitted)

    def _train(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        size, rate = x.shape[1] - 1, self.lr / (x.shape[1] - 1)
        share = (mask / mask.sum().clamp(min=1))[:, None]  # [n, 1]
        w = velocity = x.new_zeros(x.shape[1], y.shape[1])
        for _ in range(self.steps):
            gradient = x.T @ (share * ((x @ w).softmax(-1) - y)) + self.l2 * size * w
            velocity = self.momentum * velocity + gradient
            w = w - rate * velocity
        return w
