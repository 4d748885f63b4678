"""A cart that carries a pole, of unknown masses, length and friction.

    a = (u − c ẋ + m l θ̇² sin θ) / (M + m)
    θ̈ = (g sin θ − a cos θ) / (l (4/3 − m cos² θ / (M + m))) ,   ẍ = a − m l θ̈ cos θ / (M + m)

Barto, Sutton, Anderson (1983), *Neuronlike Adaptive Elements That Can Solve Difficult Learning Control
Problems*, as in ``CartPole-v1`` of gymnasium (Towers et al. 2024), with friction c of the cart added; l is
half of the pole's length. The force u lies within ±10 N and is held over an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.physics._environments import Constants, Environments
from tasks.source import Card

__all__ = ["CartPole"]

G = 9.8  # m/s², as in gymnasium
CART = 1.0  # kg
FORCE = 10.0  # N


class CartPole(Environments):
    """Place (m), speed (m/s), angle (rad, 0 is up) and angular velocity (rad/s), under the forces that are
    told.

    Args:
        points: T, moments of a trajectory after its beginning, a twentieth of a second from one to the next.
        kept: trajectories of each environment of split ``train``.
        noise: standard deviation of the noise on the targets of supports; queries have none.

    Example:
        >>> cart = CartPole()
        >>> cart.shape, cart.outputs, cart.constants(next(iter(cart.groups("test"))))
        ((24,), 80, {'mass': 0.15, 'length': 0.45, 'friction': 0.1})
    """

    interval: ClassVar[float] = 0.05
    states: ClassVar[int] = 4
    controls: ClassVar[int] = 1
    grid: ClassVar[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
        "train": {"mass": (0.1, 0.25, 0.4), "length": (0.35, 0.55, 0.75), "friction": (0.0, 0.5)},
        "validation": {"mass": (0.2, 0.42), "length": (0.5, 0.78), "friction": (0.2, 0.55)},
        "test": {"mass": (0.15, 0.45), "length": (0.45, 0.8), "friction": (0.1, 0.6)},
        "wide": {
            "mass": (0.08, 0.18, 0.3, 0.43),
            "length": (0.4, 0.6, 0.7, 0.77),
            "friction": (0.05, 0.3, 0.58),
        },
    }

    def begin(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """At any angle, near the middle, slow."""
        place, turning = rng.uniform(-1, 1, (2, n)), rng.uniform(-1, 1, (2, n))
        return np.stack([place[0], place[1], np.pi * turning[0], 2 * turning[1]])

    def drive(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Forces that change with every interval."""
        return rng.uniform(-FORCE, FORCE, (self.points, 1, n))

    def derivative(self, state: np.ndarray, control: np.ndarray, constants: Constants) -> np.ndarray:
        """See `Environments.derivative`."""
        (_, speed, angle, turning), (mass, length, friction) = state, constants
        sine, cosine, total = np.sin(angle), np.cos(angle), CART + mass
        push = (control[0] - friction * speed + mass * length * turning**2 * sine) / total
        faster = (G * sine - push * cosine) / (length * (4 / 3 - mass * cosine**2 / total))
        return np.stack([speed, push - mass * length * faster * cosine / total, turning, faster])

    card: ClassVar[Card] = Card(
        name="cart_pole",
        description=(
            "A cart and the pole on it over a second, twenty times a second, under random forces; "
            "environments differ in the pole's mass and length and in the friction of the cart."
        ),
        origin=(
            "Computed here by the equations of A. Barto, R. Sutton, C. Anderson (1983), as in CartPole-v1 of "
            "M. Towers et al. (2024), Gymnasium: A Standard Interface for Reinforcement Learning "
            "Environments, with friction added."
        ),
        licence="Apache-2.0 (generated)",
        terms="As for this software; nothing is asked for the numbers themselves.",
        counts={"parameters": 3},
        known_issues=(
            "No end of the track, no play of the joint.",
            "Half of each constant's test values lie between those of training, the others beyond them.",
        ),
        personal_data="None.",
        domain="physics",
        commercial=True,
    )
