"""Whether a model does as well by every group of examples.

    gap(g) = score of all others − score of g        its 95 % interval, over all groups together (Bonferroni)

of shares by the hybrid of Wilson's intervals (Newcombe 1998, *Interval Estimation for the Difference between
Independent Proportions*, method 10), of errors by Welch's. Of two classes besides, by fairlearn:

    demographic parity    max_g P(ŷ = 1 | g) − min_g P(ŷ = 1 | g)
    equalised odds        the larger of the same differences of P(ŷ = 1 | y = 1, g) and P(ŷ = 1 | y = 0, g)

Agarwal, Beygelzimer, Dudík, Langford, Wallach (2018), *A Reductions Approach to Fair Classification*,
definitions 1 and 2; Hardt, Price, Srebro (2016), *Equality of Opportunity in Supervised Learning*. Both are
the same whichever class is called 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np

from adapt.compare.statistics import LEVEL, wilson
from adapt.errors import AdaptError

__all__ = ["Group", "Groups"]

#: Fewest examples of a group whose gap is judged.
FEW = 10


@dataclass(frozen=True)
class Group:
    """One of them.

    Attributes:
        name, n: of the group.
        score: mean of its examples: the share that is right, or the mean absolute error.
        low, high: its 95 % interval.
        gap: by how much it is worse than all others; below 0: better.
        gap_low, gap_high: its interval, over all groups together; None of too few examples.
    """

    name: str
    n: int
    score: float
    low: float
    high: float
    gap: float
    gap_low: float | None
    gap_high: float | None


@dataclass(frozen=True)
class Groups:
    """All groups by one column.

    Attributes:
        by: what divides them.
        groups: the worst first.
        parity, odds: of two classes; None of others.
    """

    by: str
    groups: tuple[Group, ...]
    parity: float | None = None
    odds: float | None = None

    @classmethod
    def of(
        cls,
        by: str,
        groups: Sequence[str],
        predicted: Sequence[Any] | np.ndarray,
        truth: Sequence[Any] | np.ndarray,
        *,
        regression: bool,
    ) -> Groups:
        """Of n examples.

        Args:
            groups: the group of each.
            predicted, truth: labels, or numbers in regression.

        Raises:
            AdaptError: there are no two groups, or fairlearn is not installed.

        Example:
            >>> towns, truth = ["a"] * 20 + ["b"] * 20, [1] * 30 + [0] * 10
            >>> found = Groups.of("town", towns, [1] * 40, truth, regression=False)
            >>> found.worst.name, found.worst.gap
            ('b', 0.5)
        """
        member, names = np.asarray(groups), sorted({*map(str, groups)})
        if len(names) < 2:
            raise AdaptError(f"all examples are of one group by {by}: there is nothing to compare")
        if regression:
            scores = np.abs(np.asarray(predicted, np.float64) - np.asarray(truth, np.float64))
        else:
            scores = (np.asarray(predicted) == np.asarray(truth)).astype(np.float64)
        level = LEVEL / len(names)
        judged = [
            _group(name, scores[member == name], scores[member != name], level, regression) for name in names
        ]
        worst_first = tuple(sorted(judged, key=lambda group: -group.gap))
        classes = sorted({*map(str, truth), *map(str, predicted)})
        if regression or len(classes) != 2:
            return cls(by, worst_first)
        right, said = (np.array([str(label) == classes[1] for label in it]) for it in (truth, predicted))
        return cls(by, worst_first, *_parity(right, said, member))

    @property
    def worst(self) -> Group:
        """The group that is served worst."""
        return self.groups[0]

    def refused(self, most: float) -> tuple[Group, ...]:
        """The groups that are shown to be worse than all others by more than ``most``."""
        return tuple(group for group in self.groups if group.gap_low is not None and group.gap_low > most)

    def metrics(self) -> dict[str, float]:
        """Of a run; the names are those of columns, as MLflow can take them."""
        name = "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in self.by)
        found = {f"trust/gap_{name}": self.worst.gap, f"trust/worst_{name}": self.worst.score}
        more = {f"trust/parity_{name}": self.parity, f"trust/odds_{name}": self.odds}
        return found | {key: value for key, value in more.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Groups:
        """What :meth:`to_dict` gave."""
        return cls(**{**kept, "groups": tuple(Group(**group) for group in kept["groups"])})


def _group(name: str, own: np.ndarray, others: np.ndarray, level: float, regression: bool) -> Group:
    sign = -1.0 if regression else 1.0  # of errors less is better
    gap = sign * float(others.mean() - own.mean())
    judged = min(len(own), len(others)) >= FEW
    if not regression:
        low, high = wilson(float(own.sum()), len(own))
        ends = _newcombe(others, own, level) if judged else (None, None)
        return Group(name, len(own), float(own.mean()), low, high, gap, *ends)
    from scipy.stats import t

    spread = float(own.std(ddof=1)) / sqrt(len(own)) if len(own) > 1 else 0.0
    half = float(t.ppf(1 - LEVEL / 2, max(len(own) - 1, 1))) * spread
    ends = _welch(own, others, level) if judged else (None, None)
    return Group(
        name, len(own), float(own.mean()), float(own.mean()) - half, float(own.mean()) + half, gap, *ends
    )


def _newcombe(first: np.ndarray, second: np.ndarray, level: float) -> tuple[float, float]:
    """Of the share of ``first`` minus that of ``second``."""
    (l1, u1), (l2, u2) = (wilson(part.sum(), len(part), level) for part in (first, second))
    p1, p2 = float(first.mean()), float(second.mean())
    return p1 - p2 - sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2), p1 - p2 + sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2)


def _welch(first: np.ndarray, second: np.ndarray, level: float) -> tuple[float, float]:
    from scipy.stats import ttest_ind

    found = ttest_ind(first, second, equal_var=False).confidence_interval(1 - level)
    return float(found.low), float(found.high)


def _parity(truth: np.ndarray, predicted: np.ndarray, member: np.ndarray) -> tuple[float, float | None]:
    """Demographic parity and equalised odds; the latter None where a group has examples of one class only."""
    try:
        from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
    except ImportError as error:
        raise AdaptError(
            'groups of two classes need fairlearn: pip install "adaptive-behavior[trust]"'
        ) from error
    given = {"y_true": truth, "y_pred": predicted, "sensitive_features": member}
    whole = all(len({*truth[member == name]}) == 2 for name in {*member})
    odds = float(equalized_odds_difference(**given)) if whole else None
    return float(demographic_parity_difference(**given)), odds
