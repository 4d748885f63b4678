"""Predators and prey whose appetite differs from place to place.

    dx/dt = α x − β x y ,   dy/dt = δ x y − γ y ,   α = γ = 1/2

Lotka (1925), *Elements of Physical Biology*; Volterra (1926), *Fluctuations in the Abundance of a Species
Considered Mathematically*. Constants, environments, times and beginnings as Kirchmeyer et al. (2022),
*Generalizing to New Physical Systems via Context-Informed Dynamics Model* (CoDA), have them in their code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.physics._environments import Constants, Environments
from tasks.source import Card

__all__ = ["LotkaVolterra"]

ALPHA = GAMMA = 0.5


class LotkaVolterra(Environments):
    """Numbers of prey and predators over time; β and δ are those of the environment.

    Args:
        points: T, moments of a trajectory after its beginning, half a unit of time from one to the next.
        kept: trajectories of each environment of split ``train``.
        noise: standard deviation of the noise on the targets of supports; queries have none.

    Example:
        >>> animals = LotkaVolterra()
        >>> animals.shape, animals.outputs, [len(animals.groups(split)) for split in animals.splits]
        ((2,), 38, [9, 4, 4, 9, 36])
    """

    interval: ClassVar[float] = 0.5
    states: ClassVar[int] = 2
    grid: ClassVar[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
        "train": {"beta": (0.5, 0.75, 1.0), "delta": (0.5, 0.75, 1.0)},
        "validation": {"beta": (0.875, 1.0625), "delta": (0.875, 1.0625)},
        "test": {"beta": (0.625, 1.125), "delta": (0.625, 1.125)},
        "wide": {"beta": (0.45, 0.6, 0.7, 0.85, 0.95, 1.1), "delta": (0.45, 0.6, 0.7, 0.85, 0.95, 1.1)},
    }

    def __init__(self, points: int = 19, kept: int = 4, noise: float = 0.0) -> None:
        super().__init__(points, kept, noise)

    def begin(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Between 1 and 2 of each."""
        return rng.uniform(1, 2, (2, n))

    def derivative(self, state: np.ndarray, control: np.ndarray, constants: Constants) -> np.ndarray:
        """See `Environments.derivative`."""
        (x, y), (beta, delta) = state, constants
        return np.stack([ALPHA * x - beta * x * y, delta * x * y - GAMMA * y])

    card: ClassVar[Card] = Card(
        name="lotka_volterra",
        description=(
            "Numbers of prey and predators over ten units of time, by the equations of Lotka and Volterra; "
            "environments differ in how much predators eat and in how well they live on it."
        ),
        origin=(
            "Computed here by the equations of A. Lotka (1925) and V. Volterra (1926), for the environments "
            "of M. Kirchmeyer, Y. Yin, J. Donà, N. Baskiotis, A. Rakotomamonjy, P. Gallinari (2022), "
            "Generalizing to New Physical Systems via Context-Informed Dynamics Model, "
            "https://arxiv.org/abs/2202.01889."
        ),
        licence="Apache-2.0 (generated)",
        terms="As for this software; nothing is asked for the numbers themselves.",
        counts={"parameters": 2},
        known_issues=(
            "A model: real populations are counted, and have seasons, places and other animals.",
            "Half of the test environments lie between those of training, the others beyond them.",
            "Points of a trajectory follow each other and are not independent.",
        ),
        personal_data="None.",
        domain="physics",
        commercial=True,
    )
