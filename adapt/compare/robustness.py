"""How a method does on queries that are worse than what it learned from, and on those of no class.

The score on worse queries (:mod:`tasks.worse`), and, where tasks have examples of other classes, how well the
largest probability tells them from queries (AUROC: Hendrycks and Gimpel 2017, *A Baseline for Detecting
Misclassified and Out-of-Distribution Examples*).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.compare.metric import Metric
from tasks import Episode
from tasks.outside import auroc
from tasks.worse import worsened

__all__ = ["Robustness"]


@dataclass(frozen=True)
class Robustness:
    """Of all tasks of a method.

    Attributes:
        worse: score on worse queries of each task ``[n]``.
        outside: AUROC of each task ``[n]``; empty where tasks have no examples of other classes.
    """

    worse: tuple[float, ...]
    outside: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        predict: Callable[[Tensor], Tensor],
        episode: Episode,
        metric: Metric,
        pad: int | None,
        outputs: Tensor | None = None,
    ) -> Robustness:
        """Of a task, whose outputs ``[m, C]`` for examples ``[m, …]`` are those of ``predict``; ``outputs``:
        those for the queries as they are, if they are there already. What is drawn follows from the number of
        the task: it is the same for every method."""
        generator = torch.Generator().manual_seed(episode.meta.index)
        x, y, others = episode.query_x, episode.query_y, episode.meta.outside_x
        found = metric.measure(predict(worsened(x, generator, pad)), y)
        if others is None or not metric.share or not len(others):
            return cls((found,))
        both = (predict(x) if outputs is None else outputs, predict(others.to(x.device)))
        return cls((found,), (auroc(*(part.softmax(-1).amax(-1).cpu() for part in both)),))

    @classmethod
    def joined(cls, parts: Sequence[Robustness]) -> Robustness:
        """Of all tasks of ``parts``."""
        worse = tuple(score for part in parts for score in part.worse)
        return cls(worse, tuple(score for part in parts for score in part.outside))

    def metrics(self, metric: Metric) -> dict[str, float]:
        """Of a child run; shares 0 … 1."""
        found = {f"trust/{metric.name}_worse": float(np.mean(self.worse))}
        return found | ({"trust/auroc_outside": float(np.mean(self.outside))} if self.outside else {})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Robustness:
        """Read :meth:`to_dict`.

        Raises:
            TypeError, ValueError, KeyError: something else.
        """
        return cls(tuple(map(float, value["worse"])), tuple(map(float, value["outside"])))
