"""Sinusoids: Finn, Abbeel, Levine (2017), *Model-Agnostic Meta-Learning for Fast Adaptation*, section 5.1.

y = A sin(x − φ),   A ~ U[0.1, 5],   φ ~ U[0, π],   x ~ U[−5, 5]
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from tasks._settings import between, check_setting
from tasks.functions import SPLITS, Drawn
from tasks.source import Card

__all__ = ["Sinusoid"]

VERSION = "1"  # to be raised with any change to what is drawn
AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, math.pi)
X = (-5.0, 5.0)


class Sinusoid:
    """One number in, one number out, in the units of the paper.

    Args:
        noise: standard deviation of the noise on the targets of the support; queries have none. The functions
            and inputs are the same whatever it is.

    Example:
        >>> sinusoid = Sinusoid()
        >>> sinusoid.shape, sinusoid.outputs, sinusoid.splits
        ((1,), 1, ('train', 'validation', 'test'))
    """

    regression = True
    splits = SPLITS
    shape = (1,)
    outputs = 1

    def __init__(self, noise: float = 0.0) -> None:
        check_setting("sinusoid: noise", noise, between(0, None))
        self.noise = noise
        self.card = CARD
        self.name = CARD.name

    def draw(self, rng: np.random.Generator, support: int, queries: int) -> Drawn:
        """A sinusoid, as [n, 1] inputs and [n, 1] targets; see `FunctionSource.draw`."""
        u = rng.random(2 + support + queries)  # one call: a task costs little more than its generator
        amplitude, phase = _within(AMPLITUDE, u[0]), _within(PHASE, u[1])
        x = _within(X, u[2:, None]).astype(np.float32)
        clean = amplitude * np.sin(x.astype(np.float64) - phase)  # of the rounded x, so that y belongs to it
        if self.noise:
            clean[:support] += self.noise * rng.standard_normal((support, 1))
        y = clean.astype(np.float32)
        parameters = {"amplitude": float(amplitude), "phase": float(phase)}
        return x[:support], y[:support], x[support:], y[support:], parameters

    def digest(self) -> str:
        """sha256 (hex) of version, ranges and noise."""
        decisive = ("sinusoid", VERSION, AMPLITUDE, PHASE, X, float(self.noise))
        return hashlib.sha256(repr(decisive).encode()).hexdigest()


def _within(bounds: tuple[float, float], u: np.ndarray) -> np.ndarray:
    """From [0, 1) to the bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * u


CARD = Card(
    name="sinusoid",
    description="Points of y = A sin(x − φ) with a random amplitude A and phase φ per task; x is uniform.",
    origin=(
        "Computed here, after C. Finn, P. Abbeel, S. Levine (2017), Model-Agnostic Meta-Learning for Fast "
        "Adaptation of Deep Networks, section 5.1, https://arxiv.org/abs/1703.03400."
    ),
    licence="Apache-2.0 (generated)",
    terms="As for this software; nothing is asked for the numbers themselves.",
    counts={"inputs": 1, "outputs": 1, "parameters": 2},
    known_issues=(
        "A toy: two parameters describe a task, so a good adapter needs two directions only.",
        "Splits differ by random stream, not by range: every test function has near neighbours in training.",
        "Large amplitudes dominate a mean squared error over tasks.",
    ),
    personal_data="None.",
    domain="synthetic",
    commercial=True,
)
