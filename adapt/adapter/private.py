"""Statistics that say little of any single example: clipped, and with noise.

    v_i = (ℓ_i, g_i, diag G_i, √2 G_i above it)     of example i, in units of z's deviations a priori
    sent = Σ_i v_i min(1, C / ‖v_i‖) + N(0, σ² C² I)

The Gaussian mechanism: Dwork and Roth (2014), *The Algorithmic Foundations of Differential Privacy*,
appendix A; clipping as in Abadi et al. (2016), *Deep Learning with Differential Privacy*, algorithm 1, of
sums that are all that is ever sent. With one example more or less what is sent moves by C at most, and so is
(ε, δ)-differentially private where

    Φ(1/2σ − εσ) − e^ε Φ(−1/2σ − εσ) ≤ δ

Balle and Wang (2018), *Improving the Gaussian Mechanism for Differential Privacy*, theorem 8. The least such
σ is taken. The number of examples is not hidden. Rounds add up: r of them are (r ε, r δ)-private at least.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from math import erfc, exp, sqrt

import torch
from torch import Tensor
from torch.func import vmap

from adapt.checks import Number, check_settings, positive
from adapt.inner.levenberg_marquardt import Quadratic, quadratic
from adapt.inner.losses import Loss
from adapt.precision import double

__all__ = ["NOISY", "Privacy", "deviation", "private_sums", "secret"]


#: Why a task of private sums has no posterior.
NOISY = "its sums are private, and how far their noise has moved it nobody knows"


@dataclass(frozen=True)
class Privacy:
    """What is sent is (``epsilon``, ``delta``)-differentially private, of examples that count up to ``clip``
    C each."""

    epsilon: float
    delta: float = 1e-5
    clip: float = 1.0

    def __post_init__(self) -> None:
        rules = {"epsilon": positive(), "clip": positive(), "delta": Number(above=0, below=1)}
        check_settings(self, "privacy", **rules)


def deviation(epsilon: float, delta: float) -> float:
    """The least σ, to nine digits.

    Example:
        >>> deviation(1.0, 1e-5) < sqrt(2 * 11.7)  # less than the usual √(2 log(1.25/δ)) / ε
        True
    """

    def normal(x: float) -> float:
        return erfc(-x / sqrt(2)) / 2

    def spent(sigma: float) -> float:
        half, shift = 1 / (2 * sigma), epsilon * sigma
        # Of a large ε the second term is a product of something huge and something tiny.
        tail = normal(-half - shift)
        return normal(half - shift) - (exp(min(epsilon, 700.0)) * tail if tail else 0.0)

    low, high = 0.0, 1.0
    while spent(high) > delta:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > delta else (low, middle)
    return high


def secret() -> int:
    """A seed that nobody knows."""
    return secrets.randbits(63)


def private_sums(
    outputs: Tensor,
    columns: Tensor,
    targets: Tensor,
    loss: Loss,
    precision: Tensor,
    privacy: Privacy,
    generator: torch.Generator,
) -> Quadratic:
    """As :func:`adapt.inner.levenberg_marquardt.quadratic`, of outputs ``[n, C]``, ``columns [k, n, C]`` and
    ``targets [n, C]``, private. ``precision [k]`` is the prior's, which is public."""
    units = double(precision).rsqrt()
    units = torch.where(torch.isfinite(units), units, (precision == 0).to(units))  # 0 along what is held
    each = vmap(lambda o, c, t: quadratic(o[None], c[:, None], t[None], loss))
    found = each(double(outputs), double(columns.movedim(0, 1)), double(targets))
    k = len(units)
    above = torch.triu_indices(k, k, 1, device=outputs.device)
    curvature = found.curvature * units[:, None] * units  # [n, k, k]
    parts = [
        found.value[:, None],
        found.gradient * units,
        curvature.diagonal(dim1=1, dim2=2),
        sqrt(2) * curvature[:, above[0], above[1]],
    ]
    rows = torch.cat(parts, 1)
    sizes = rows.norm(dim=1, keepdim=True)
    total = (rows * (privacy.clip / sizes.clamp(min=privacy.clip))).sum(0)
    noise = torch.randn(total.shape, dtype=total.dtype, generator=generator).to(total.device)
    total = total + deviation(privacy.epsilon, privacy.delta) * privacy.clip * noise
    value, gradient, diagonal, beside = total.split([part.shape[1] for part in parts])
    matrix = total.new_zeros(k, k)
    matrix[above[0], above[1]] = beside / sqrt(2)
    matrix = matrix + matrix.T + torch.diag(diagonal)
    lengths, axes = torch.linalg.eigh(matrix)  # what is sent is a sum over examples again
    back = torch.where(units > 0, 1 / units, 0)
    root = back[:, None] * axes * lengths.clamp(min=0).sqrt()
    return Quadratic(value[0].clamp(min=0), gradient * back, root @ root.T)
