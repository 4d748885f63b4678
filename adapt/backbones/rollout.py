"""A vector field that is followed through time: a neural ordinary differential equation, by fixed steps.

    s_{t+1} = s_t + h/6 (k₁ + 2 k₂ + 2 k₃ + k₄) ,   k₁ = f(s_t, u_t; φ) ,   k₂ = f(s_t + h/2 k₁, u_t; φ) , …

Kutta (1901); a network for f: Chen, Rubanova, Bettencourt, Duvenaud (2018), *Neural Ordinary Differential
Equations*. Steps are fixed, so that the whole is a plain function of φ: tangents in φ go forward with the
state, and take no more memory for a thousand steps than for ten, where a backward pass keeps them all.
"""

import torch
from torch import Tensor, nn

from adapt.backbones.built import Built
from adapt.backbones.mlp import Mlp, sizes_of
from adapt.checks import DEPTH, STEPS, Number, check_setting, least, list_of, positive
from adapt.errors import AdaptError

__all__ = ["Rollout", "from_field"]


class Rollout(nn.Module):
    """``x [n, d + T·m] → [n, T·d]``: a state, then the controls of each interval, to the states after each
    interval, a moment after the other.

    Args:
        field: ``[n, d + m] → [n, d]``, or from ``d + m + a`` where ``a`` of the states are angles.
        states: d, numbers of a state.
        points: T, intervals.
        interval: from point to point, in the system's unit of time.
        controls: m, numbers that are given for each interval and held over it.
        substeps: steps of an interval.
        angles: states that the field sees by sine and cosine; they are not wrapped.

    Example:
        >>> import torch
        >>> from adapt.backbones import Mlp
        >>> Rollout(Mlp((2, 8, 2)), states=2, points=19, interval=0.5)(torch.ones(5, 2)).shape
        torch.Size([5, 38])
    """

    def __init__(
        self,
        field: nn.Module,
        states: int,
        points: int,
        interval: float,
        *,
        controls: int = 0,
        substeps: int = 1,
        angles: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.field = field
        self.states = check_setting("rollout: states", states, least(1, ceiling=DEPTH))
        self.points = check_setting("rollout: points", points, least(1, ceiling=STEPS))
        self.interval = check_setting("rollout: interval", interval, positive("a time is positive"))
        self.controls = check_setting("rollout: controls", controls, least(0, ceiling=DEPTH))
        self.substeps = check_setting("rollout: substeps", substeps, least(1, ceiling=DEPTH))
        places = list_of(Number(least=0, below=states, whole=True, why=f"number one of the {states} states"))
        self.angles = tuple(check_setting("rollout: angles", list(angles), places))
        if len({*self.angles}) < len(self.angles):
            raise AdaptError(f"rollout: angles={[*self.angles]} names a state twice: name each once")

    def forward(self, x: Tensor) -> Tensor:
        """States ``[n, T·d]`` of ``x [n, d + T·m]``."""
        state, given = x[:, : self.states], x[:, self.states :]
        if given.shape[1] != self.points * self.controls:
            raise AdaptError(
                f"rollout: an example has {x.shape[1]} numbers, and {self.states} states with "
                f"{self.controls} controls for each of {self.points} intervals are {self.width}"
            )
        h = self.interval / self.substeps
        found = []
        for t in range(self.points):
            control = given[:, t * self.controls : (t + 1) * self.controls]
            for _ in range(self.substeps):
                k1 = self.slope(state, control)
                k2 = self.slope(state + h / 2 * k1, control)
                k3 = self.slope(state + h / 2 * k2, control)
                k4 = self.slope(state + h * k3, control)
                state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            found.append(state)
        return torch.cat(found, 1)

    @property
    def width(self) -> int:
        """Numbers of an example, d + T·m."""
        return self.states + self.points * self.controls

    def slope(self, state: Tensor, control: Tensor) -> Tensor:
        """ds/dt ``[n, d]`` at ``state [n, d]`` under ``control [n, m]``."""
        if not self.angles:
            return self.field(torch.cat([state, control], 1) if self.controls else state)
        around, others = state[:, list(self.angles)], [i for i in range(self.states) if i not in self.angles]
        return self.field(torch.cat([around.sin(), around.cos(), state[:, others], control], 1))


def from_field(
    name: str,
    *,
    points: int,
    interval: float,
    controls: int = 0,
    substeps: int = 1,
    angles: tuple[int, ...] = (),
    seed: int = 0,
) -> Built:
    """A perceptron as the field, described by ``name`` as in ``mlp:``; its last size is that of a state.

    Raises:
        AdaptError: no such sizes, activation or settings, or sizes that do not fit the settings.
    """
    sizes, activation = sizes_of("rollout", name)
    states = sizes[-1]
    rollout = Rollout(
        Mlp(sizes, activation, seed),
        states,
        points,
        interval,
        controls=controls,
        substeps=substeps,
        angles=tuple(angles),
    )
    if sizes[0] != states + controls + len(rollout.angles):
        raise AdaptError(
            f"backbone 'rollout:{name}': the field takes {sizes[0]} numbers, and {states} states, {controls} "
            f"controls and one more for each of {len(rollout.angles)} angles are "
            f"{states + controls + len(rollout.angles)}"
        )
    return Built(rollout, (rollout.width,))
