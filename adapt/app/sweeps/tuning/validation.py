"""The tasks that settings are chosen on: never those that are measured, and the same for every method."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from adapt.app.stages.session import Parts, distribution
from adapt.app.sweeps.tuning.search import Search
from adapt.errors import AdaptError
from tasks import AnySource, Card, Source, TaskError, Tasks
from tasks.elsewhere import leaves, on_split, redrawn

__all__ = ["HeldOut", "one_pool", "origin", "splits_of", "validation_tasks"]

VALIDATION = "validation"
#: The validation tasks of meta-training have the seed of its config; those of a search begin far from them.
FIRST_SEED = 10**6


@dataclass(frozen=True)
class HeldOut:
    """One split of ``source`` in two: a ``share`` of every class's examples, drawn once, is split ``query``,
    the rest is split ``support``. The other splits of the source are not in it.

    Example:
        >>> from tasks import Digits
        >>> parts = HeldOut(Digits(), "support", 0.2, seed=0)
        >>> [len(parts.classes(split)["3"]) for split in ("support", "query")]
        [88, 22]
    """

    source: Source
    split: str
    share: float
    seed: int = 0

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    @property
    def card(self) -> Card:
        """That of the source."""
        return self.source.card

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.source.shape

    @property
    def splits(self) -> tuple[str, ...]:
        """The two parts."""
        return ("support", "query")

    def classes(self, split: str) -> Mapping[str, np.ndarray]:
        """Class name → rows ``[m]`` of its examples in that part; at least one is held out.

        Raises:
            TaskError: no such part.
        """
        if split not in self.splits:
            raise TaskError(f"{self.name}: the held-out parts are support and query, not {split!r}")
        found = {}
        for position, (name, rows) in enumerate(self.source.classes(self.split).items()):
            shuffled = np.random.default_rng([self.seed, position]).permutation(rows)
            cut = max(1, round(self.share * len(rows)))
            found[name] = np.sort(shuffled[:cut] if split == "query" else shuffled[cut:])
        return found

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """Examples ``[n, *shape]`` of rows ``[n]`` of the source."""
        return self.source.load(indices)

    def digest(self) -> str:
        """sha256 (hex) of the source and of how it is divided."""
        what = f"{self.source.digest()} {self.split!r} {self.share} {self.seed}"
        return hashlib.sha256(what.encode()).hexdigest()


def validation_tasks(config: DictConfig, parts: Parts, search: Search) -> Tasks:
    """Tasks to choose on: what ``validation`` of the tasks says, or the split ``validation`` where there is
    one, else parts of the support pool if the search allows it.

    Raises:
        AdaptError: nothing to choose on, or tasks that share something with those that are measured.
    """
    measured = distribution(config, parts)
    seed = FIRST_SEED + search.seed
    if all(part.validation or VALIDATION in part.source.splits for part in leaves(measured)):
        tasks: Tasks = on_split(measured, VALIDATION, seed)
        _check_apart(tasks, measured)
        return tasks

    def held_out(part: Any) -> dict[str, Any]:
        support, query = splits_of(part)
        if search.held_out is None or support == query or not isinstance(part.source, Source):
            raise AdaptError(_nothing(part.source, support, one_split=support == query))
        source = HeldOut(part.source, support, search.held_out, search.seed)
        return {"source": source, "support_split": "support", "query_split": "query"}

    return redrawn(measured, seed, held_out)


def splits_of(tasks: Tasks) -> tuple[str, str]:
    """The splits that supports and queries come from; twice the same where it is one."""
    return tasks.support_split, tasks.query_split or tasks.support_split


def origin(tasks: Tasks) -> str:
    """Which part of the data they are drawn from, in a few words."""
    source, (support, query) = tasks.source, splits_of(tasks)
    if isinstance(source, HeldOut):
        return f"split {source.split}, of which {source.share:.0%} are held out as queries"
    return f"split {support}" if support == query else f"splits {support} and {query}"


def one_pool(tasks: Tasks) -> bool:
    """Whether supports and queries are drawn from the same examples, so that a method that learns from the
    whole pool would learn from queries."""
    support, query = splits_of(tasks)
    return support == query


def _check_apart(tasks: Tasks, measured: Tasks) -> None:
    """Choosing must not see what is measured. Different data have nothing in common; parts of the same data
    are compared example by example, or, where tasks are functions or groups, by split."""
    for part, other in product(leaves(tasks), leaves(measured)):
        source = part.source
        if source.digest() != other.source.digest():
            continue
        chosen, kept = splits_of(part), splits_of(other)
        if isinstance(source, Source) and isinstance(other.source, Source):
            # Supports that are measured may be seen: they are labelled, and what retraining learns from.
            shared = len(np.intersect1d(_rows(source, set(chosen)), _rows(other.source, {kept[1]})))
            found = f"share {shared} examples with its split '{kept[1]}'" if shared else None
        else:
            found = f"are of its split '{kept[0]}'" if chosen[0] == kept[0] else None
        if found is not None:
            raise AdaptError(
                f"the validation tasks of '{source.name}' {found}, which is measured on: set task.validation "
                "to splits of their own, as task.validation={support_split: validation, query_split: null}"
            )


def _rows(source: Source, splits: set[str]) -> np.ndarray:
    pools = [rows for split in splits for rows in source.classes(split).values()]
    return np.concatenate(pools)


def _nothing(source: AnySource, support: str, *, one_split: bool) -> str:
    fix = (
        "say what to choose on, as task.validation={support_split: ..., query_split: ...} or with a source "
        "of its own"
    )
    if not one_split:
        fix += f", or hold out a part of split '{support}', as hparams_search.held_out=0.2"
    known = ", ".join(source.splits)
    return f"task '{source.name}' has no split 'validation' (it has {known}): {fix}"
