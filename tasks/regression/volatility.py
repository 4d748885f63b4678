"""Stochastic volatility: how much will a price move over the next days, for an asset that is new?

    r_t = exp(h_t / 2) ε_t ,   h_{t+1} = φ h_t + σ √(1 − φ²) η_t ,   corr(ε_t, η_t) = ρ ,   ε, η ~ N(0, 1)

Taylor (1986), *Modelling Financial Time Series*, section 3.5; the correlation, with which falling prices
raise volatility, as in Omori, Chib, Shephard, Nakajima (2007), *Stochastic Volatility with Leverage*, the
counterpart in discrete time of Heston (1993). φ is the persistence, with a half-life of −log 2 / log φ days,
σ the standard deviation of the log variance. Inputs are the last returns, the target is the logarithm of
their root mean square over the next days (realised volatility, Andersen, Bollerslev, Diebold, Labys 2003).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from tasks._settings import check_setting, least
from tasks.functions import SPLITS, Drawn
from tasks.regression._windows import FLOOR, length, windows
from tasks.source import Card

__all__ = ["Volatility", "returns"]

VERSION = "1"  # to be raised with any change to what is drawn
HALF_LIFE = (1.0, 120.0)  # days, uniform in the logarithm
SPREAD = (0.6, 1.6)  # σ
LEVERAGE = (-0.9, 0.5)  # ρ


class Volatility:
    """One simulated asset per task; its first days give the support, the days after them the queries.

    Returns are in units of their root mean square up to the last day of the support.

    Args:
        lags: days of returns in an input.
        horizon: days that the target looks ahead.

    Example:
        >>> volatility = Volatility()
        >>> volatility.shape, volatility.outputs
        ((20,), 1)
    """

    regression = True
    splits = SPLITS
    outputs = 1

    def __init__(self, lags: int = 20, horizon: int = 5) -> None:
        for name, value in (("lags", lags), ("horizon", horizon)):
            check_setting(f"volatility: {name}", value, least(1, most=10_000))
        self.lags, self.horizon = lags, horizon
        self.shape = (lags,)
        self.card = CARD
        self.name = CARD.name

    def draw(self, rng: np.random.Generator, support: int, queries: int) -> Drawn:
        """An asset, as inputs [n, lags] and targets [n, 1]; see `FunctionSource.draw`."""
        low, high = map(math.log, HALF_LIFE)
        half_life = math.exp(rng.uniform(low, high))
        spread, leverage = rng.uniform(*SPREAD), rng.uniform(*LEVERAGE)
        days = length(self.lags, self.horizon, support, queries)
        series = returns(rng, days, 0.5 ** (1 / half_life), spread, leverage)
        *arrays, scale = windows(series, self.lags, self.horizon, support, queries, "volatility")
        support_x, support_y, query_x, query_y = arrays
        known = {"half_life": half_life, "spread": spread, "leverage": leverage, "scale": scale}
        return support_x, support_y, query_x, query_y, known

    def digest(self) -> str:
        """sha256 (hex) of version, ranges and settings."""
        decisive = ("volatility", VERSION, HALF_LIFE, SPREAD, LEVERAGE, FLOOR, self.lags, self.horizon)
        return hashlib.sha256(repr(decisive).encode()).hexdigest()


def returns(
    rng: np.random.Generator, days: int, persistence: float, spread: float, leverage: float
) -> np.ndarray:
    """r [days], float64, from the stationary distribution of h.

    Args:
        persistence: φ in [0, 1).
        spread: σ.
        leverage: ρ in [−1, 1].
    """
    shock, own = rng.standard_normal((2, days))
    eta = leverage * shock + math.sqrt(1 - leverage**2) * own
    steps = (spread * math.sqrt(1 - persistence**2) * eta).tolist()
    h, path = spread * float(rng.standard_normal()), []
    for step in steps:
        path.append(h)
        h = persistence * h + step
    return np.exp(np.array(path) / 2) * shock


CARD = Card(
    name="volatility",
    description=(
        "Daily returns of simulated assets, and the logarithm of their root mean square over the next days; "
        "assets differ in persistence, size and asymmetry of the changes of their volatility."
    ),
    origin=(
        "Computed here by the log-normal stochastic volatility model of S. Taylor (1986), Modelling "
        "Financial Time Series, Wiley, with leverage as in Y. Omori, S. Chib, N. Shephard, J. Nakajima "
        "(2007), Journal of Econometrics 140."
    ),
    licence="Apache-2.0 (generated)",
    terms="As for this software; nothing is asked for the numbers themselves.",
    counts={"outputs": 1, "parameters": 3},
    known_issues=(
        "A model, not a market: no jumps, fat tails beyond the model's, trends, calendar, or breaks.",
        "Most of the target's variance is noise that nobody can forecast.",
        "Neighbouring windows overlap: points of a task are not independent.",
        "Splits differ by random stream, not by range: every test asset has near neighbours in training.",
    ),
    personal_data="None.",
    domain="finance",
    commercial=True,
)
