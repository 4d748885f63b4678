"""Evidence that what comes is stranger than what was usual, which may be looked at after every example.

    p_t = (#{i < t : s_i > s_t} + U_t #{i ≤ t : s_i = s_t}) / #{i ≤ t}     s: how strange, of all so far
    S_t = 1/(t + 1) + Σ_κ C_t^κ ,   C_0^κ = 0
    C_t^κ = κ p_t^{κ − 1} ((1 − J) C_{t−1}^κ + (J Σ_λ C_{t−1}^λ + 1/(t (t + 1))) / |κ|)

Conformal p-values of examples that come in any order are independent and uniform, whatever they are (Vovk,
Gammerman, Shafer 2005, *Algorithmic Learning in a Random World*, proposition 2.8). Betting against that makes
no money: S_t ≥ c ever, with a chance of 1/c at most (Ville 1939). So an alarm at c = 1/α is false in a share
α of all streams, however long they are. The bets are powers (their section 7.1), and capital jumps between
them (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman 2021, *Retrain or Not Retrain: Conformal Test
Martingales for Change-Point Detection*, algorithm 1). What is not yet bet, 1/(t + 1), is there for a change
that comes late: all bets may have been lost by then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

import numpy as np

from adapt.errors import AdaptError

__all__ = ["Martingale"]

#: κ: from none to all against p-values as small as they can be.
BETS = np.array([1.0, 0.5, 0.25])
#: J, of algorithm 1.
JUMP = 0.01
#: So many are kept to compare with, a sample of all: a server runs for long.
MOST = 20_000


class Martingale:
    """Of one kind of strangeness.

    Args:
        usual: how strange examples are of which nothing is wrong; from a number of 10 on something can be
            noticed.
        seed: of the order among equals.

    Raises:
        AdaptError: numbers that are none.

    Example:
        >>> evidence = Martingale(range(100))
        >>> [round(evidence.see(strange), 1) for strange in (50.0, 120.0, 121.0, 122.0, 123.0)]
        [-0.1, 0.7, 2.5, 4.6, 5.6]
    """

    def __init__(self, usual: Iterable[float], seed: int = 0) -> None:
        self._seen = sorted(map(_number, usual))
        self._count = len(self._seen)
        self._generator = np.random.default_rng(seed)
        self._bets = np.zeros(len(BETS))  # C_t^κ / S_t
        self._time = 0
        self.evidence = 0.0

    def see(self, strange: float) -> float:
        """Look at one more example; returns the :attr:`evidence`, log10 S_t."""
        strange = _number(strange)
        self._count += 1
        insort(self._seen, strange)
        low, high = bisect_left(self._seen, strange), bisect_right(self._seen, strange)
        above = len(self._seen) - high
        # Of at least one in 2⁵³: powers of 0 are none.
        p = (above + max(self._generator.random(), 2.0**-53) * (high - low)) / len(self._seen)
        if len(self._seen) > MOST:
            # Of all so far each stays with the same chance (Vitter 1985, algorithm R).
            place = int(self._generator.integers(self._count))
            del self._seen[low if place >= MOST else place + (place >= low)]
        self._time += 1
        kept = 10.0**-self.evidence / self._time  # of what there was before this example: 1/t, over S
        placed = (JUMP * self._bets.sum() + kept / (self._time + 1)) / len(BETS)
        bets = ((1 - JUMP) * self._bets + placed) * BETS * p ** (BETS - 1)
        grown = float(bets.sum() + kept * self._time / (self._time + 1))
        self._bets = bets / grown
        self.evidence += float(np.log10(grown))
        return self.evidence


def _number(value: float) -> float:
    if np.isnan(value):
        raise AdaptError("how strange an example is, is no number: leave it out")
    return float(value)
