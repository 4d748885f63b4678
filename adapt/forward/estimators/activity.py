"""Forward gradient by perturbing activations instead of weights.

    ĝ_il = (1/k) Σ_j (Σ_l' ∇_(a_il') ℓ_i · u_jil') u_jil ,   G_l = (1/n) Σ_i ĝ_il h_(i,l−1)ᵀ ,   u ~ N(0, I)

a_il are the pre-activations of example i in layer l, and ℓ_i is the loss of the stage that the layer is in.
Ren, Kornblith, Liao, Hinton (2023), *Scaling Forward Gradient With Local Losses*, arXiv 2210.03310, section 3
(activity perturbation) and section 4 (local losses). An unbiased estimate of the gradient of the local
losses, each with the input of its stage held fixed; without local losses there is one stage, and that is the
gradient of f.

For one example and one layer of M units E‖G − ∇‖² = ((M + 1)/k) ‖∇‖²: units are counted, not weights. In a
stage M is about the sum over its layers, and n examples average over n independent draws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.forward.estimators.base import GradientInfo, check_tangents
from adapt.forward.estimators.layered import Layered, Stage
from adapt.forward.pushforward import pushforward

__all__ = ["ActivityPerturbation"]


@dataclass(frozen=True)
class ActivityPerturbation:
    """``tangents`` is k; f must be a :class:`Layered`.

    Cost about 1 + k forward passes, and one for the outer products. Memory: what enters each layer of a
    stage, and k perturbations of its pre-activations, are kept until the end of that stage; one local loss
    per block keeps this small, no local loss keeps about 1 + k times what backprop does.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from adapt.forward.estimators import Block, Layered
        >>> block = Block(nn.Linear(2, 1), after=lambda a: a, loss=lambda h: h.square().sum(1))
        >>> f, generator = Layered(torch.ones(1, 2), [block]), torch.Generator().manual_seed(0)
        >>> value, g, info = ActivityPerturbation()(f, torch.tensor([1.0, 2.0, 0.0]), generator=generator)
        >>> bool(g[0] == g[1] == g[2])  # one unit: the outer product with the input (1, 1) and the bias's 1
        True
    """

    tangents: int = 1
    exact: bool = False

    def __post_init__(self) -> None:
        check_tangents(self.tangents)

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the estimate ``[P]`` at ``x [P]``, and its info; perturbations are drawn from
        ``generator``."""
        if not isinstance(f, Layered):
            raise AdaptError(
                f"ActivityPerturbation needs to know the layers of the loss, but f is a {type(f).__name__}: "
                "pass an adapt.forward.estimators.Layered"
            )
        h, gradients = f.inputs, list[Tensor]()
        for stage in f.stages(x):
            losses, h, found = self._stage(stage, h, generator)
            gradients += found
        gradient = torch.cat([part.flatten() for part in gradients])
        return losses.mean(), gradient, GradientInfo(exact=False, tangents=self.tangents, passes=1.0)

    def _stage(
        self, stage: Stage, h: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Losses ``[n]``, output, and the gradients of a stage's parameters in order, from its input."""
        slopes: Tensor | None = None  # [k, n, …], of h along the perturbations so far; its input has none
        seen: list[tuple[Tensor, Tensor]] = []  # input and perturbations of every layer
        for block, parameters in stage:
            affine = partial(block.affine, parameters)
            if slopes is None:
                a, along = affine(h), 0
            else:
                a, along = pushforward(affine, h, slopes)
            u = torch.randn(self.tangents, *a.shape, dtype=a.dtype, device=a.device, generator=generator)
            seen.append((h, u))
            h, slopes = pushforward(block.after, a, along + u)
        losses, slope = pushforward(stage[-1][0].losses, h, slopes)  # [n], [k, n]
        gradients: list[Tensor] = []
        for (block, _), (entered, u) in zip(stage, seen, strict=True):
            g = torch.einsum("kn,kn...->n...", slope, u) / (self.tangents * len(losses))
            gradients += block.outer(entered, g)
        return losses, h, gradients
