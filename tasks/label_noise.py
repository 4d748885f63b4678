"""Wrong labels in the support, never in the queries.

Symmetric noise as in Van Rooyen, Menon, Williamson (2015), *Learning with Symmetric Label Noise*, section 2:
a label is replaced by one of the other classes of its task, each as likely. Difference: the number of wrong
labels is fixed, and one right example of each class is left, for a class without examples could not be
predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ._settings import between, check_setting
from .distribution import Episode
from .sizes import most
from .source import TaskError
from .wrapped import Wrapped

__all__ = ["NoisyLabels", "noisy"]


@dataclass(frozen=True)
class NoisyLabels(Wrapped):
    """Replaces ``round(share · n)`` of the n support labels, at most n − N of N classes.

    Rows are put in the order of their new labels, so that they stay class-major; ``meta.clean_y`` holds the
    true label of each row. How many examples a class has may then differ from class to class.

    Args:
        base: tasks of classes.
        share: of the labels, between 0 and 1.

    Raises:
        TaskError: a share out of range, a regression, or tasks with a single shot.

    Example:
        >>> from tasks import Digits, Distribution
        >>> clean = Distribution(Digits(), ways=2, shots=5, support_split="support")
        >>> episode = NoisyLabels(clean, share=0.2).episode(0)
        >>> episode.support_y.tolist(), episode.meta.clean_y.tolist()
        ([0, 0, 0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        share = check_setting("task.share", self.share, between(0, 1))
        object.__setattr__(self, "share", share)
        if self.regression:
            raise TaskError(
                f"task.share={self.share}: {self.source.name} has numbers, no labels: leave NoisyLabels out"
            )
        if self.share and most(self.shots) < 2:
            raise TaskError(
                f"task.share={self.share} of tasks with task.{self._within}shots={self.shots}: a class needs "
                f"one right example, so use task.{self._within}shots>=2"
            )

    @property
    def described(self) -> dict[str, Any]:
        """With the share of wrong labels."""
        return {**self.base.described, **({"label noise": self.share} if self.share else {})}

    def change(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """The episode with wrong labels in its support."""
        return noisy(episode, self.share, rng)


def noisy(episode: Episode, share: float, rng: np.random.Generator) -> Episode:
    """The episode with a ``share`` of wrong labels in its support, as :class:`NoisyLabels` has it."""
    clean, ways = episode.support_y.numpy(), len(episode.meta.classes)
    order = rng.permutation(len(clean))
    kept = order[np.unique(clean[order], return_index=True)[1]]  # the first of each class in that order
    free = order[~np.isin(order, kept)]
    wrong = free[: round(share * len(clean))]
    changed = clean.copy()
    changed[wrong] = (changed[wrong] + rng.integers(1, ways, len(wrong))) % ways
    rows = np.argsort(changed, kind="stable")
    meta = replace(
        episode.meta,
        support_indices=episode.meta.support_indices[rows],
        clean_y=torch.from_numpy(clean[rows]),
    )
    return episode._replace(
        support_x=episode.support_x[torch.from_numpy(rows)],
        support_y=torch.from_numpy(changed[rows]),
        meta=meta,
    )
