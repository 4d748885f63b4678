"""Glycolysis: sugar that a cell burns in waves, by two substances that feed each other.

    dx/dt = −x + a y + x² y ,   dy/dt = b − a y − x² y

Sel'kov (1968), *Self-Oscillations in Glycolysis*, European Journal of Biochemistry 4, in the form of Strogatz
(1994), *Nonlinear Dynamics and Chaos*, section 7.3. x is ADP, y is F6P, in units without a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from tasks.physics._environments import Constants, Environments
from tasks.source import Card

__all__ = ["Selkov"]


class Selkov(Environments):
    """Concentrations over time; a and b are those of the environment. Some come to rest, others oscillate.

    Args:
        points: T, moments of a trajectory after its beginning, half a unit of time from one to the next.
        kept: trajectories of each environment of split ``train``.
        noise: standard deviation of the noise on the targets of supports; queries have none.

    Example:
        >>> cell = Selkov()
        >>> cell.shape, cell.outputs, next(iter(cell.groups("test")))
        ((2,), 38, 'a 0.07, b 0.475')
    """

    interval: ClassVar[float] = 0.5
    states: ClassVar[int] = 2
    grid: ClassVar[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
        "train": {"a": (0.06, 0.08, 0.1), "b": (0.4, 0.55, 0.7)},
        "validation": {"a": (0.09, 0.105), "b": (0.625, 0.75)},
        "test": {"a": (0.07, 0.11), "b": (0.475, 0.775)},
        "wide": {"a": (0.055, 0.065, 0.075, 0.085, 0.095, 0.108), "b": (0.37, 0.44, 0.5, 0.59, 0.65, 0.74)},
    }

    def __init__(self, points: int = 19, kept: int = 4, noise: float = 0.0) -> None:
        super().__init__(points, kept, noise)

    def begin(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Between 1/2 and 2 of each."""
        return rng.uniform(0.5, 2, (2, n))

    def derivative(self, state: np.ndarray, control: np.ndarray, constants: Constants) -> np.ndarray:
        """See `Environments.derivative`."""
        (x, y), (a, b) = state, constants
        burnt = a * y + x * x * y
        return np.stack([burnt - x, b - burnt])

    card: ClassVar[Card] = Card(
        name="selkov",
        description=(
            "Concentrations of two substances of glycolysis over ten units of time, by Sel'kov's equations; "
            "environments differ in the constants, with which the cell comes to rest or oscillates."
        ),
        origin=(
            "Computed here by the equations of E. Sel'kov (1968), European Journal of Biochemistry 4, in the "
            "form of S. Strogatz (1994), Nonlinear Dynamics and Chaos, section 7.3."
        ),
        licence="Apache-2.0 (generated)",
        terms="As for this software; nothing is asked for the numbers themselves.",
        counts={"parameters": 2},
        known_issues=(
            "A model of two substances: real glycolysis has many more.",
            "Half of the test environments lie between those of training, the others beyond them.",
            "Points of a trajectory follow each other and are not independent.",
        ),
        personal_data="None.",
        domain="physics",
        commercial=True,
    )
