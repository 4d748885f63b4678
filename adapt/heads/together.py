"""What heads share that predict a batch of examples together, each in view of the others.

The state is the support set itself. Features are brought to one length after a power of their size, and
centred: those of the support set and those that are to be predicted each on their own mean, which may differ
(Liu, Song, Qin 2020, *Prototype Rectification for Few-Shot Learning*, equation 7, shifts them the same way).
A batch of one says nothing of the others; it is centred as the support set is.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from adapt.heads.base import KeepsSupport, normalise, powered
from adapt.heads.leave_one_out import refitted
from adapt.precision import full_precision

__all__ = ["Seen", "Together", "is_transductive", "means_of", "scores", "seen"]


def is_transductive(head: object) -> bool:
    """Whether outputs of ``head`` for an example depend on which others are predicted with it."""
    return bool(getattr(head, "transductive", False))


class Seen(NamedTuple):
    """A support set and a batch: unit features ``s [n, D]`` and ``q [m, D]``, targets ``y [n, C]`` of it."""

    s: Tensor
    y: Tensor
    q: Tensor


class Together(KeepsSupport, ABC):
    """What these heads have in common: all but their ``logits``, and their settings."""

    supports_regression: bool
    transductive: bool

    @abstractmethod
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]``: logarithms of probabilities, which depend on all of the examples."""

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``, by n fits, each example predicted alone."""
        return refitted(self, features, targets, weights)


def seen(state: Tensor, features: Tensor, power: float) -> Seen:
    """Both sets, centred, of length 1."""
    d = features.shape[-1]
    y, s, q = state[:, d:], powered(state[:, :d], power), powered(normalise(features), power)
    there = y.sum(1)
    centre = there @ s / there.sum().clamp(min=1)
    # Of m examples their own mean counts m − 1 times and that of the support set once.
    m = len(q)
    own = ((m - 1) * q.mean(0) + centre) / m if m else centre
    length = d**-0.5
    return Seen(length * normalise(s - centre), y, length * normalise(q - own))


def means_of(both: Seen, assigned: Tensor | None = None) -> Tensor:
    """Class means ``[C, D]`` of the support set and of a batch ``assigned [m, C]`` softly, if it is."""
    sums, count = both.y.T @ both.s, both.y.sum(0)
    if assigned is not None:
        sums, count = sums + assigned.T @ both.q, count + assigned.sum(0)
    means: Tensor = sums / count.clamp(min=1e-6)[:, None]
    return means


def scores(rows: Tensor, means: Tensor, temperature: float) -> Tensor:
    """−‖q − μ_c‖² / (2 τ), ``[m, C]``."""
    squared = rows.square().sum(-1, keepdim=True) - 2 * rows @ means.T + means.square().sum(-1)
    return -squared / (2 * temperature)
