"""Functions of several families: which one a task is of is drawn with it, and not said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from tasks._settings import between, check_setting
from tasks.functions import SPLITS, Drawn, FunctionSource
from tasks.source import TaskError, joined_card

__all__ = ["Families"]


class Families:
    """A function of one of several families.

    Inputs [n, D] and targets [n, C] are as wide as the widest family's, and 0 in the columns that the others
    do not have.

    Args:
        families: name -> functions of flat inputs.
        weights: how often each is drawn, by name, on any scale, 0 for never; None: each as often.

    Raises:
        TaskError: fewer than two families, one that is of something else, or weights of other families.

    Example:
        >>> from tasks import Sinusoid, VehicleDynamics
        >>> both = Families({"sinusoid": Sinusoid(), "vehicle": VehicleDynamics()})
        >>> both.shape, both.outputs
        ((5,), 3)
    """

    regression = True
    splits = SPLITS

    def __init__(
        self, families: Mapping[str, FunctionSource], weights: Mapping[str, float] | None = None
    ) -> None:
        named = isinstance(families, Mapping) and all(isinstance(name, str) for name in families)
        if not named or len(families) < 2:
            raise TaskError("families: give at least two by name, as in {'sinusoid': …, 'vehicle': …}")
        for name, family in families.items():
            if not isinstance(family, FunctionSource) or len(family.shape) != 1 or family.splits != SPLITS:
                raise TaskError(f"families.{name} is no family of functions of flat inputs")
        if not isinstance(weights, Mapping | None):
            raise TaskError(
                f"families: weights is a {type(weights).__name__}: give one for each family by name"
            )
        weights = dict.fromkeys(families, 1.0) if weights is None else dict(weights)
        rule = between(0, None)
        shares = [check_setting(f"families: weights.{name}", it, rule) for name, it in weights.items()]
        if {*weights} != {*families} or not sum(shares):
            raise TaskError(
                f"families: weights={weights} do not fit {', '.join(families)}: "
                "give one for each, not 0 for all"
            )
        self._families = dict(families)
        self._shares = np.array([weights[name] for name in families]) / sum(shares)
        self.shape = (max(family.shape[0] for family in families.values()),)
        self.outputs = max(family.outputs for family in families.values())
        self.name = " + ".join(families)
        self.card = joined_card({name: family.card for name, family in families.items()}, self.name)

    def draw(self, rng: np.random.Generator, support: int, queries: int) -> Drawn:
        """See `FunctionSource.draw`; the parameter ``family`` is the number of the family, from 0."""
        number = int(rng.choice(len(self._shares), p=self._shares))
        family = [*self._families.values()][number]
        *arrays, parameters = family.draw(rng, support, queries)
        support_x, support_y, query_x, query_y = (
            _padded(array, width)
            for array, width in zip(arrays, (*self.shape, self.outputs) * 2, strict=True)
        )
        return support_x, support_y, query_x, query_y, {"family": float(number), **parameters}

    def digest(self) -> str:
        """sha256 (hex) of names, weights and digests of all families, in their order."""
        parts = [(name, family.digest()) for name, family in self._families.items()]
        decisive = ("families", parts, self._shares.tolist())
        return hashlib.sha256(repr(decisive).encode()).hexdigest()


def _padded(array: np.ndarray, width: int) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])))
