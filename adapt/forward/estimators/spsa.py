"""Simultaneous perturbation: the slope along a random direction, from two values of the loss.

    g = (1/m) Σ_j (f(x + ε u_j) − f(x − ε u_j)) / (2ε) · u_j ,   u_j ~ N(0, I)

Spall (1992), *Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient
Approximation*, equation 2.2; in this form Malladi, Gao, Nichani, Damian, Lee, Chen, Arora (2023),
*Fine-Tuning Language Models with Just Forward Passes*, arXiv 2305.17333, definition 1 and algorithm 1 (MeZO).
No derivative is taken, so f need not be differentiable. As ε → 0 it is the Gaussian forward gradient, with
E‖g − ∇f‖² = ((P + 1)/m) ‖∇f‖²; its bias is O(ε²), none if f is quadratic, and rounding adds an error of the
order of |f|/ε times the machine precision to each slope.

Difference: MeZO writes the perturbation into the parameters and adds it back, which leaves them a few
rounding errors away. Here x is never written to: it keeps every bit, also if f raises. To give it back
exactly would take a copy anyway, which is no more than the gradient that is returned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import WIDTH, check_settings, least, positive
from adapt.forward.estimators.base import GradientInfo

__all__ = ["SPSA"]


@dataclass(frozen=True)
class SPSA:
    """``samples`` is m, ``epsilon`` is ε > 0; cost 1 + 2m forward passes (the 1 is for the value at x).

    A direction is drawn again from its seed when it is needed again: memory is that of inference and, for any
    m, three vectors ``[P]`` (the gradient, a direction, a perturbed copy of x). ``vmap`` needs
    ``randomness="same"``, since a seed is a plain number.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> value, gradient, info = SPSA(samples=4)(lambda z: z @ z, torch.ones(3), generator=generator)
        >>> info
        GradientInfo(exact=False, tangents=0, passes=8.0)
    """

    samples: int = 1
    epsilon: float = 1e-3
    exact: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            "",
            samples=least(1, "an estimate needs at least one direction", ceiling=WIDTH),
            epsilon=positive("the step along a direction must be positive and finite"),
        )

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the estimate ``[P]`` at ``x [P]``, and its info; seeds are drawn from
        ``generator``."""
        value, gradient = f(x), torch.zeros_like(x)
        for _ in range(self.samples):
            device = generator.device if generator else None
            seed = int(torch.randint(2**63 - 1, (), device=device, generator=generator))
            ahead = f(x.add(_direction(seed, x), alpha=self.epsilon))
            behind = f(x.sub(_direction(seed, x), alpha=self.epsilon))
            slope = (ahead - behind) / (2 * self.epsilon * self.samples)
            gradient = torch.addcmul(gradient, slope, _direction(seed, x))
        return value, gradient, GradientInfo(exact=False, tangents=0, passes=2.0 * self.samples)


def _direction(seed: int, x: Tensor) -> Tensor:
    """The same u ``[P]`` for the same seed."""
    again = torch.Generator(x.device).manual_seed(seed)
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=again)
