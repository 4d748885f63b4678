"""A pendulum with a motor, of unknown mass, length and friction.

    θ̈ = 3 g / (2 l) · sin θ + 3 / (m l²) · (u − c θ̇)

A rod of mass m and length l; θ = 0 points up, as in the environment ``Pendulum-v1`` of gymnasium (Towers et
al. 2024, *Gymnasium: A Standard Interface for Reinforcement Learning Environments*), whose equation this is
but for the friction c. The torque u lies within ±2 N m and is held over an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.physics._environments import Constants, Environments
from tasks.source import Card

__all__ = ["TORQUE", "G", "Pendulum"]

G = 10.0  # m/s², as in gymnasium
TORQUE = 2.0  # N m


class Pendulum(Environments):
    """Angle (rad, not wrapped) and angular velocity (rad/s) over time, under the torques that are told.

    Args:
        points: T, moments of a trajectory after its beginning, a twentieth of a second from one to the next.
        kept: trajectories of each environment of split ``train``.
        noise: standard deviation of the noise on the targets of supports; queries have none.

    Example:
        >>> pendulum = Pendulum()
        >>> pendulum.shape, pendulum.outputs, len(pendulum.groups("train"))
        ((22,), 40, 18)
    """

    interval: ClassVar[float] = 0.05
    states: ClassVar[int] = 2
    controls: ClassVar[int] = 1
    grid: ClassVar[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
        "train": {"mass": (0.7, 1.0, 1.3), "length": (0.7, 1.0, 1.3), "friction": (0.0, 0.2)},
        "validation": {"mass": (0.85, 1.35), "length": (0.85, 1.35), "friction": (0.05, 0.22)},
        "test": {"mass": (0.8, 1.4), "length": (0.8, 1.4), "friction": (0.03, 0.25)},
        "wide": {
            "mass": (0.65, 0.9, 1.1, 1.38),
            "length": (0.75, 0.95, 1.2, 1.38),
            "friction": (0.02, 0.08, 0.24),
        },
    }

    def begin(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Any angle, and up to 4 rad/s."""
        return np.stack([rng.uniform(-np.pi, np.pi, n), rng.uniform(-4, 4, n)])

    def drive(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Torques that change with every interval."""
        return rng.uniform(-TORQUE, TORQUE, (self.points, 1, n))

    def derivative(self, state: np.ndarray, control: np.ndarray, constants: Constants) -> np.ndarray:
        """See `Environments.derivative`."""
        (angle, speed), (mass, length, friction) = state, constants
        turning = 1.5 * G / length * np.sin(angle)
        return np.stack([speed, turning + 3 / (mass * length**2) * (control[0] - friction * speed)])

    card: ClassVar[Card] = Card(
        name="pendulum",
        description=(
            "Angle and angular velocity of a rod on a motor over a second, twenty times a second, under "
            "random torques; environments differ in mass, length and friction."
        ),
        origin=(
            "Computed here by the equation of Pendulum-v1 of M. Towers et al. (2024), Gymnasium: A Standard "
            "Interface for Reinforcement Learning Environments, with friction added."
        ),
        licence="Apache-2.0 (generated)",
        terms="As for this software; nothing is asked for the numbers themselves.",
        counts={"parameters": 3},
        known_issues=(
            "An ideal motor: no delay, no play, no heat.",
            "Half of each constant's test values lie between those of training, the others beyond them.",
            "Speeds are not limited to 8 rad/s, as they are in Pendulum-v1.",
        ),
        personal_data="None.",
        domain="physics",
        commercial=True,
    )
