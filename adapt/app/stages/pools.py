"""Further labelled examples of the classes of a task: what retraining, and a classifier that stays, learn
from."""

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.method import Pool
from adapt.errors import AdaptError
from tasks import Source, Tasks

__all__ = ["fixed_classes", "pool_from", "pool_split", "spread"]

LOOKED_AT = 4  # tasks, to see whether they have the same classes


def fixed_classes(tasks: Tasks) -> tuple[str, ...]:
    """The classes of every task, in the order of their labels.

    Raises:
        AdaptError: tasks whose classes differ, or that have none.
    """
    first, *others = (tasks.episode(index).meta.classes for index in range(LOOKED_AT))
    if not first or any(other != first for other in others):
        raise AdaptError("a classifier stays where all tasks have the same classes: use task=conditions")
    return first


def pool_split(tasks: Tasks) -> str:
    """Where examples for retraining, and for classifiers that stay, come from: that of supports, unless tasks
    of fixed classes have another one to learn them from."""
    return str(getattr(tasks, "pool_split", tasks.support_split))


def spread(rows: np.ndarray, most: int | None) -> np.ndarray:
    """At most ``most`` of the ``rows``, evenly spread; None: all."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def pool_from(source: Source, split: str, device: torch.device) -> Pool:
    """All examples of given classes in the split that supports come from, but for the task's queries, which
    come from the same split where there is only one."""
    members = source.classes(split)

    def pool(
        classes: tuple[str, ...], reserved: tuple[int, ...] = (), most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        rows = [spread(np.setdiff1d(members[name], reserved), most) for name in classes]
        if none := [name for name, left in zip(classes, rows, strict=True) if not len(left)]:
            raise AdaptError(
                f"retraining has no example of class '{none[0]}' left, all are queries: use fewer "
                "task.queries, set task.query_split, or leave method retrain out"
            )
        labels = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        return source.load(np.concatenate(rows)).to(device), torch.as_tensor(labels).to(device)

    return pool
