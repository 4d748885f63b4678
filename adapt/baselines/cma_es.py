"""Evolution in place of derivatives: a Gaussian over z that moves to where its better half lies.

    z_j ~ N(m, σ² C) ,  j = 1 … λ ;   m, σ, C ← those of the λ/2 with the least ℓ(z_j) + ½ z_jᵀ Λ⁻¹ z_j

Hansen and Ostermeier (2001), *Completely Derandomized Self-Adaptation in Evolution Strategies*; by the
package ``cmaes`` (Nomura and Shibata 2024). With entropy and statistics for ℓ it is the learning rule of Niu
et al. (2024), *Test-Time Model Adaptation with Only Forward Passes* (FOA), section 3.1, who take λ = 28 and
one generation for each batch of a stream. Differences: z need not be a prompt, and activations are not
shifted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.backbones.libraries import require
from adapt.checks import SEED, STEPS, WIDTH, check_settings, least, positive
from adapt.errors import AdaptError
from adapt.inner import Learned, Loss, Model, Trace
from adapt.inner.solver import as_model

__all__ = ["CmaEs"]


@dataclass(frozen=True)
class CmaEs:
    """A solver that sees values only. ``sigma`` is σ at the start, in units of the prior's deviations where
    there are any; the best z that was seen is kept. Cost: ``population`` passes a generation.

    Raises:
        AdaptError: a start that has no directions, or one only.
    """

    population: int = 28
    generations: int = 1
    sigma: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            "cma_es",
            population=least(4, "at least four, of which two are the better half", ceiling=WIDTH),
            generations=least(1, ceiling=STEPS),
            sigma=positive(),
            seed=SEED,
        )

    def __call__(
        self,
        model: Model | Callable[[Tensor], Tensor],
        targets: Tensor,
        loss: Loss,
        learned: Learned,
        on_step: object = None,
    ) -> tuple[Tensor, Trace]:
        """See :class:`adapt.inner.Solver`; nothing can be differentiated through it."""
        there, precision = as_model(model), learned.precision
        k = len(precision)
        if k < 2:
            raise AdaptError(
                f"cma_es: there are {k} directions, and a covariance needs two: use another solver"
            )
        prior = torch.where(precision.isfinite(), precision, 0)  # directions of infinite precision stay at 0
        unit = torch.where(precision > 0, precision.rsqrt(), 1)

        def objective(z: Tensor) -> float:
            outputs = there.readout(there.features(z), None)
            value = loss.value(outputs, targets) + 0.5 * (prior * z.square()).sum()
            return float(value) if value.isfinite() else float("inf")

        search = require("cmaes").CMA(
            mean=np.zeros(k), sigma=self.sigma, population_size=self.population, seed=self.seed
        )
        best, lowest, losses = torch.zeros_like(precision), float("inf"), []
        for _ in range(self.generations):
            found = []
            for _ in range(self.population):
                asked = search.ask()
                z = unit * torch.as_tensor(asked, dtype=precision.dtype, device=precision.device)
                found.append((asked, objective(z)))
                if found[-1][1] < lowest:
                    best, lowest = z, found[-1][1]
            search.tell(found)
            losses.append(lowest)
        return best, Trace(precision.new_tensor(losses), float(self.population * self.generations))
