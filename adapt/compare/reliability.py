"""How far the probabilities of a method may be believed, over the queries of all of its tasks.

    −log p      −(1/m) Σ_i log p_i(y_i)
    Brier       (1/m) Σ_i Σ_c (p_i(c) − 1[y_i = c])²
    ECE         Σ_b |Σ_{i ∈ b} (1[right_i] − max_c p_i(c))| / m       b: bins of the confidence max_c p_i(c)
    classwise   the same of every class by itself, p_i(c) beside 1[y_i = c], over all pairs of query and class

Brier (1950), *Verification of Forecasts Expressed in Terms of Probability*; Naeini, Cooper, Hauskrecht
(2015), *Obtaining Well Calibrated Probabilities Using Bayesian Binning*, equation 1; Kull et al. (2019),
*Beyond Temperature Scaling*, section 3.2. Probabilities are the softmax of what a method puts out.

A perfectly calibrated model has an ECE, too, as a bin holds few queries: with v_b = Σ_{i ∈ b} p_i (1 − p_i)

    expected    Σ_b min(√(2 v_b / π), 2 v_b) / m

which is that of a normal distribution in bins with many queries, and of a rare event in those with few. Bins
add up over tasks, so that many small tasks are judged together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["BINS", "Bins", "Reliability"]

#: Of the same width; as in the literature.
BINS = 15


@dataclass(frozen=True)
class Bins:
    """Of predictions whose probability lies in each of :data:`BINS` bins: how many there are, and the sums of
    their probabilities p, of what came true, and of p (1 − p)."""

    count: tuple[float, ...]
    stated: tuple[float, ...]
    true: tuple[float, ...]
    variance: tuple[float, ...]

    @classmethod
    def of(cls, p: Tensor, true: Tensor) -> Bins:
        """Of probabilities ``p [m]`` of events, and whether each came ``true [m]``."""
        place = (p * BINS).ceil().long().clamp(1, BINS) - 1
        sums = [
            torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, values.double())
            for values in (torch.ones_like(p), p, true, p * (1 - p))
        ]
        return cls(*(tuple(values.tolist()) for values in sums))

    def __add__(self, other: Bins) -> Bins:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Bins(*(tuple(np.add(a, b).tolist()) for a, b in pairs))

    @property
    def error(self) -> float:
        """Mean distance of what came true from what was stated, 0 … 1."""
        return float(np.abs(np.subtract(self.true, self.stated)).sum() / sum(self.count))

    @property
    def expected_error(self) -> float:
        """Of probabilities that are right; within a tenth of what simulation gives."""
        variance = np.array(self.variance)
        return float(np.minimum(np.sqrt(2 * variance / np.pi), 2 * variance).sum() / sum(self.count))


@dataclass(frozen=True)
class Reliability:
    """Of all tasks of a method.

    Attributes:
        nll, brier: of each task ``[n]``.
        top: of the most probable class of each query.
        each: of each class of each query.
    """

    nll: tuple[float, ...]
    brier: tuple[float, ...]
    top: Bins
    each: Bins

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Reliability:
        """Of a task with ``logits [m, C]`` and ``labels [m]``, 0 … C − 1; a label beyond is of no class.

        Example:
            >>> sure = Reliability.of(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1]))
            >>> round(sure.top.error, 2), round(sure.brier[0], 2)
            (0.5, 1.0)
        """
        logits, labels = logits.detach().double().cpu(), labels.cpu()
        log_p = logits.log_softmax(-1)
        p, ways = log_p.exp(), logits.shape[-1]
        true = torch.nn.functional.one_hot(labels.clamp(max=ways), ways + 1)[:, :ways].double()
        nll = -torch.where(true > 0, log_p, 0.0).sum(-1).mean()
        best = p.argmax(-1)
        rows = torch.arange(len(p))
        return cls(
            (float(nll),),
            (float((p - true).square().sum(-1).mean()),),
            Bins.of(p[rows, best], true[rows, best]),
            Bins.of(p.flatten(), true.flatten()),
        )

    @classmethod
    def joined(cls, parts: Sequence[Reliability]) -> Reliability:
        """Of all tasks of ``parts``, at least one."""
        first, *others = parts
        for part in others:
            first = cls(
                first.nll + part.nll,
                first.brier + part.brier,
                first.top + part.top,
                first.each + part.each,
            )
        return first

    def metrics(self) -> dict[str, float]:
        """Of a child run; shares 0 … 1."""
        return {
            "trust/nll": float(np.mean(self.nll)),
            "trust/brier": float(np.mean(self.brier)),
            "trust/ece": self.top.error,
            "trust/ece_expected": self.top.expected_error,
            "trust/ece_classwise": self.each.error,
            "trust/ece_classwise_expected": self.each.expected_error,
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Reliability:
        """Read :meth:`to_dict`.

        Raises:
            TypeError, ValueError, KeyError: something else.
        """
        bins = [
            Bins(**{name: _numbers(part, BINS) for name, part in value[kind].items()})
            for kind in ("top", "each")
        ]
        return cls(_numbers(value["nll"]), _numbers(value["brier"]), *bins)


def _numbers(values: Any, count: int | None = None) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if count not in (None, len(found)):
        raise ValueError(f"{len(found)} numbers, not {count}")
    return found
