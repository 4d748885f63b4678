"""How often values lie as far from what was expected of them together: by a Gaussian, or by one whose scale
differs from task to task.

    r ~ N(0, w⁻¹ (ν−2)/ν V) ,   w ~ Γ(ν/2, ν/2)          ⇔   Student's t with covariance V and ν degrees
    Q = rᵀ V⁻¹ r  ~  d (ν−2)/ν F(d, ν)                    d numbers; ν → ∞: χ² of d degrees
    p = P(F > f) = I_x(ν/2, d/2) ,   x = (ν−2) / (ν−2 + Q)

Tasks that a network can represent well, and those that it cannot, share one covariance only on average;
values of one task are all near, or all far. After Shah, Wilson, Ghahramani (2014), *Student-t Processes as
Alternatives to Gaussian Processes*, equation 2: the same covariance, and tails of its own. I is the
regularised incomplete beta function, by its continued fraction: Abramowitz and Stegun, 26.5.8, as evaluated
by Lentz.
"""

from collections.abc import Sequence
from math import exp, lgamma, log, log1p

import torch

__all__ = ["HEAVIEST", "p_value", "tail_of"]

#: The largest 1/ν: at a half, two degrees, the covariance is infinite.
HEAVIEST = 0.499
#: Values of 1/ν that are tried.
TRIED = 500
#: Terms of the continued fraction, at most, and what counts as 0 in it.
TERMS, LEAST = 10_000, 1e-300


def p_value(distance: float, degrees: int, tail: float = 0.0) -> float:
    """The probability of a larger squared ``distance`` Q of ``degrees`` d numbers, for 1/ν = ``tail``, 0 …
    1/2; 0: Gaussian.

    Example:
        >>> round(p_value(3.84, 1), 3), round(p_value(3.84, 1, 0.25), 3)
        (0.05, 0.05)
    """
    if tail == 0:
        halves = torch.tensor([degrees / 2, distance / 2], dtype=torch.float64)
        return float(torch.special.gammaincc(halves[0], halves[1]))
    if distance == float("inf"):
        return 0.0
    freedom = 1 / tail
    return _beta(freedom / 2, degrees / 2, freedom - 2, distance)


def tail_of(distances: Sequence[float], degrees: Sequence[int]) -> float:
    """1/ν under which squared ``distances`` of so many ``degrees`` are most probable; 0: Gaussian."""
    q = torch.tensor(distances, dtype=torch.float64)
    d = torch.tensor(degrees, dtype=torch.float64)
    tails = torch.linspace(0, HEAVIEST, TRIED, dtype=torch.float64)[1:, None]
    nu = 1 / tails
    heavy = torch.lgamma((nu + d) / 2) - torch.lgamma(nu / 2) - d / 2 * (nu - 2).log()
    heavy = (heavy - (nu + d) / 2 * torch.log1p(q / (nu - 2))).sum(1)
    gaussian = (-d / 2 * log(2) - q / 2).sum()
    best = int(heavy.argmax())
    return float(tails[best]) if bool(heavy[best] > gaussian) else 0.0


def _beta(a: float, b: float, one: float, other: float) -> float:
    """I_x(a, b) at x = one / (one + other): both parts, so that neither 1 − x nor a tiny x is rounded."""
    if other <= 0:
        return 1.0
    x = one / (one + other)
    front = lgamma(a + b) - lgamma(a) - lgamma(b) - a * log1p(other / one) - b * log1p(one / other)
    if x < (a + 1) / (a + b + 2):
        return min(exp(front) * _fraction(a, b, x) / a, 1.0)
    return max(1 - exp(front) * _fraction(b, a, other / (one + other)) / b, 0.0)


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _apart(1 + term * d), _apart(1 + term / c)
            found *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return found


def _apart(value: float) -> float:
    """``value``, which is divided by, away from 0."""
    return value if abs(value) > LEAST else LEAST
