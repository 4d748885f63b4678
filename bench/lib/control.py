"""Model-predictive control by the cross-entropy method.

    u ~ N(μ, σ²)  ,   J(u) = Σ_t c(s_t, u_t) ,   μ, σ ← mean and spread of the elite of the samples

Rubinstein and Kroese (2004), *The Cross-Entropy Method*, algorithm 4.2; as a controller that plans anew at
every step, Chua, Calandra, McAllister, Levine (2018), *Deep Reinforcement Learning in a Handful of Trials*,
section 5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.physics.pendulum import TORQUE

__all__ = ["Planner", "Simulator", "cost"]

#: States ``[n, 2]`` and torques ``[n, H]`` → the states after each, ``[n, H, 2]``.
Simulator = Callable[[Tensor, Tensor], Tensor]


def cost(states: Tensor, torques: Tensor) -> Tensor:
    """Of each moment, ``[…]``, as Pendulum-v1 of gymnasium counts it: angle² + 0.1 speed² + 0.001 torque²,
    the angle from the top, within ±π."""
    angle = torch.remainder(states[..., 0] + torch.pi, 2 * torch.pi) - torch.pi
    return angle.square() + 0.1 * states[..., 1].square() + 0.001 * torques.square()


@dataclass
class Planner:
    """Plans ``horizon`` torques with ``model``, of which one is used.

    Args:
        samples, elite, rounds: plans that are tried in a round, the best of them, and rounds.
        seed: of the samples, the same for every model.
    """

    model: Simulator
    horizon: int = 25
    samples: int = 96
    elite: int = 12
    rounds: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self._mean = torch.zeros(self.horizon)

    def act(self, state: Tensor) -> float:
        """The torque to use at ``state [2]``."""
        mean, spread = self._mean, torch.full((self.horizon,), TORQUE)
        for _ in range(self.rounds):
            noise = torch.randn(self.samples, self.horizon, generator=self._generator)
            plans = (mean + spread * noise).clamp(-TORQUE, TORQUE)
            paths = self.model(state.expand(self.samples, 2), plans)
            best = cost(paths, plans).nan_to_num(torch.inf).sum(1).argsort()[: self.elite]
            mean, spread = plans[best].mean(0), plans[best].std(0) + 0.05
        self._mean = torch.cat([mean[1:], mean.new_zeros(1)])  # the next plan begins with this one
        return float(mean[0])
