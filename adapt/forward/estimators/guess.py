"""Projection of the gradient on guesses of it.

    g = Q Qᵀ∇f ,   Q an orthonormal basis of the guesses' span;   for one guess v:   g = (∇f · v) v / ‖v‖²

Fournier, Rivaud, Belilovsky, Eickenberg, Oyallon (2023), *Can Forward Gradient Match Backpropagation?*, arXiv
2306.06968, section 3: random tangents are nearly orthogonal to the gradient, the gradients of local losses
are not. Biased in general, as far as the guesses miss the gradient; never longer than it; exact if it lies in
their span.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad

from adapt.errors import AdaptError
from adapt.forward.estimators.base import GradientInfo
from adapt.forward.estimators.layered import Layered, Parameters, Stage
from adapt.forward.estimators.projection import project

__all__ = ["Guess", "LocalGradients"]


@dataclass(frozen=True)
class Guess:
    """``guess(x, generator)`` gives k guesses ``[k, P]``; they may be zero or depend on each other.

    Cost about 1 + k forward passes, and that of the guesses, which is not in the info.

    Example:
        >>> import torch
        >>> estimator = Guess(lambda x, generator: torch.tensor([[1.0, 1.0, 0.0]]))
        >>> estimator(lambda z: z @ torch.tensor([4.0, 2.0, 5.0]), torch.zeros(3))[1].round()
        tensor([3., 3., 0.])
    """

    guess: Callable[[Tensor, torch.Generator | None], Tensor]
    exact: bool = False

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the projection ``[P]`` at ``x [P]``, and its info; ``generator`` goes to
        ``guess``."""
        guesses = self.guess(x, generator)
        if guesses.ndim != 2 or len(guesses) == 0 or guesses.shape[1:] != x.shape or guesses.dtype != x.dtype:
            raise AdaptError(
                f"the guess gave {guesses.dtype} {list(guesses.shape)} for x {x.dtype} {list(x.shape)}: it "
                f"must give one or more rows, [k, {x.numel()}], of the same dtype"
            )
        value, gradient, tangents = project(f, x, guesses)
        return value, gradient, GradientInfo(exact=False, tangents=tangents)


@dataclass(frozen=True)
class LocalGradients:
    """The gradients of the local losses of ``layered``, one guess for each stage: ``[stages, P]``.

    By reverse mode inside a stage, as in the paper, and never across stages; cost about 3 forward passes, and
    activations are kept for one stage at a time. Stages share no parameters, so the guesses are orthogonal;
    that of the last stage, whose loss is the loss proper, is its part of the gradient itself.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from adapt.forward.estimators import Block, Layered
        >>> f = Layered(torch.ones(1, 2), [Block(nn.Linear(2, 1), torch.tanh, lambda h: h.sum(1))])
        >>> Guess(LocalGradients(f))(f, torch.zeros(3))[1].round()  # a single stage: nothing is missed
        tensor([1., 1., 1.])
    """

    layered: Layered

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Guesses ``[stages, P]`` at ``x [P]``; ``generator`` is not used."""
        h, rows = self.layered.inputs, list[Tensor]()
        for stage in self.layered.stages(x):
            gradients, h = grad(_loss, has_aux=True)([parameters for _, parameters in stage], stage, h)
            rows.append(torch.cat([part.flatten() for of_block in gradients for part in of_block]))
        return torch.block_diag(*(row[None] for row in rows))


def _loss(parameters: list[Parameters], stage: Stage, h: Tensor) -> tuple[Tensor, Tensor]:
    """A stage's loss at other ``parameters`` than its own, and its output, from its input ``h``."""
    for (block, _), own in zip(stage, parameters, strict=True):
        h = block(own, h)
    return stage[-1][0].losses(h).mean(), h
