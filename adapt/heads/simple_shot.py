"""Nearest class mean of features that were centred where features usually are, and brought to one length.

    g = sign(f) |f|^β ,   u = (g/‖g‖ − m) / ‖g/‖g‖ − m‖ ,   μ_c = mean of u over class c
    logits_c(f) = −‖u − μ_c‖² / (2 τ)

Wang, Chao, Weinberger, van der Maaten (2019), *SimpleShot*, section 3.2 (CL2N); the power β is that of Hu,
Gripon, Pateux (2021), *Leveraging the Feature Distribution in Transfer-based Few-Shot Learning* (PT-MAP),
equation 1, and both together are the rule of Bendou et al. (2022), *EASY*, section 3. m is the mean over
examples of the classes that the network was pretrained on, or of any like those of a task; where nobody gives
one, it is the mean of the task's class means. Differences: features are normalised before the power is taken,
which of negative ones is that of their size, and lengths are √D (hence τ D, as in
:class:`adapt.heads.Prototype`).
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from adapt.checks import Number, check_setting, check_settings, list_of, positive
from adapt.errors import AdaptError
from adapt.heads.base import check_features, normalise, powered
from adapt.heads.leave_one_out import refitted
from adapt.precision import full_precision

__all__ = ["SimpleShot"]


@dataclass(frozen=True)
class SimpleShot:
    """``mean`` m ``[D]``, of :meth:`centred_on`, or empty: that of each task; ``power`` β in (0, 1], 1 leaves
    features as they are; ``temperature`` τ > 0 sets how sharp the probabilities are, not which class wins.

    Example:
        >>> import torch
        >>> head = SimpleShot().centred_on(torch.tensor([[1.0, 0.8], [0.9, 1.0]]))
        >>> state = head.fit(torch.tensor([[1.0, 0.9], [0.9, 1.0]]), torch.eye(2))
        >>> head.logits(state, torch.tensor([[1.0, 0.7]])).argmax().item()
        0
    """

    mean: tuple[float, ...] = ()
    power: float = 1.0
    temperature: float = 0.1
    supports_regression: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", check_setting("head.mean", self.mean, list_of(Number())))
        check_settings(
            self,
            "head",
            power=Number(above=0, most=1),
            temperature=positive("a temperature must be positive"),
        )

    def centred_on(self, features: Tensor) -> Self:
        """The same head with the mean of ``features [n, D]``, of which nobody needs labels."""
        return replace(self, mean=tuple(self._unit(features).mean(0).tolist()))

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """m and the class means, ``[1 + C, D]``; a class without examples gets the zero vector."""
        check_features(features, weights)
        y = targets if weights is None else targets * weights[:, None]
        unit, count = self._unit(features), y.sum(0)
        means = (y.T @ unit) / count.clamp(min=1)[:, None]
        # Without a mean of its own: of the classes that there are.
        centre = self._mean(unit) if self.mean else means.sum(0) / (count > 0).sum().clamp(min=1)
        rows = (y.T @ normalise(unit - centre)) / count.clamp(min=1)[:, None]
        return torch.cat([centre[None], rows])

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[1 + C, D]``."""
        return 1 + outputs, features

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` scaled negative squared distances."""
        f, means = normalise(self._unit(features) - state[0]), state[1:]
        distances = f.square().sum(-1, keepdim=True) - 2 * f @ means.T + means.square().sum(-1)
        return -distances / (2 * self.temperature * f.shape[-1])

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``, by n fits: without a mean of its own, the centre too is that of the others."""
        return refitted(self, features, targets, weights)

    def _unit(self, features: Tensor) -> Tensor:
        return powered(normalise(features), self.power)

    def _mean(self, unit: Tensor) -> Tensor:
        if len(self.mean) != unit.shape[-1]:
            raise AdaptError(
                f"head.mean has {len(self.mean)} numbers, but the features have {unit.shape[-1]}: make it of "
                "features of this network, by head.centred_on(features)"
            )
        return unit.new_tensor(self.mean)
