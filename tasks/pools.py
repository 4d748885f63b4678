"""Which examples of which classes tasks are drawn from, and whether there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .sizes import most
from .source import Source, TaskError

if TYPE_CHECKING:
    from .distribution import Distribution

__all__ = ["Pools", "check_outside", "check_sizes", "common_classes", "outside_indices"]

#: Class name -> (indices for supports, indices for queries); one array twice if the splits are equal.
Pools = dict[str, tuple[np.ndarray, np.ndarray]]


def common_classes(source: Source, support_split: str, query_split: str | None) -> Pools:
    """The classes of both splits, with their pools.

    Raises:
        TaskError: no class is in both splits, or an example is.
    """
    query_split = support_split if query_split is None else query_split
    supports, queries = source.classes(support_split), source.classes(query_split)
    if query_split == support_split:
        return {name: (pool, pool) for name, pool in supports.items()}
    pools = {name: (pool, queries[name]) for name, pool in supports.items() if name in queries}
    if not pools:
        raise TaskError(
            f"{source.name} has no class in both split {support_split!r} and split "
            f"{query_split!r}: they are disjoint in classes, so use one of them for both"
        )
    for_support, for_query = (np.concatenate(side) for side in zip(*pools.values(), strict=True))
    shared = np.intersect1d(for_support, for_query)
    if len(shared):
        raise TaskError(
            f"{source.name} has {len(shared)} examples in both split {support_split!r} and "
            f"split {query_split!r}: use splits that share no example, or one split for both"
        )
    return pools


def check_sizes(tasks: Distribution) -> None:
    """Raise if the largest task that may be drawn asks for more classes or examples than there are."""
    pools, name, split = tasks._pools, tasks.source.name, tasks.support_split
    assert tasks.ways is not None
    if most(tasks.ways) > len(pools):
        where = f"in split {split!r}"
        if len(pools) < len(tasks.source.classes(split)):
            where = f"common to splits {split!r} and {tasks.query_split!r}"
        raise TaskError(
            f"task.ways={tasks.ways} but {name} has {len(pools)} classes {where}: use task.ways<={len(pools)}"
        )
    shots, queries = most(tasks.shots), most(tasks.queries)
    if tasks.query_split not in (None, split):
        least = (1, 1) if tasks.replace else (shots, queries)
        _check_smallest(tasks, 0, split, least[0], f"task.shots={tasks.shots}", "use task.shots<={}")
        _check_smallest(
            tasks, 1, tasks.query_split, least[1], f"task.queries={tasks.queries}", "use task.queries<={}"
        )
    else:
        both = shots + queries
        asked = f"task.shots={tasks.shots} and task.queries={tasks.queries} need {both} examples per class"
        _check_smallest(tasks, 0, split, 2 if tasks.replace else both, asked, "use at most {} together")


def _check_smallest(
    tasks: Distribution, side: int, split: str | None, least: int, asked: str, fix: str
) -> None:
    """Raise if a class has fewer than `least` examples for supports (side 0) or queries (side 1)."""
    smallest = min(tasks._pools, key=lambda name: len(tasks._pools[name][side]))
    have = len(tasks._pools[smallest][side])
    if have >= least:
        return
    if tasks.replace:
        asked, fix = f"task.replace=true needs {least} examples per class", "leave that class out"
    elif tasks.transform is not None:
        fix += ", or task.replace=true"
    place = f"class {smallest!r} of {tasks.source.name} has {have} in split {split!r}"
    raise TaskError(f"{asked} but {place}: {fix.format(have)}")


def check_outside(tasks: Distribution) -> None:
    """Raise if the classes that a task leaves out may have fewer examples than it asks for."""
    assert tasks.ways is not None
    left = np.sort(tasks._counts[1])[: max(len(tasks._pools) - most(tasks.ways), 0)].sum()
    if tasks.outside > left:
        raise TaskError(
            f"task.outside={tasks.outside} but the classes of {tasks.source.name} that a task leaves out may "
            f"have {left} examples only: use task.outside<={left}, or fewer task.ways"
        )


def outside_indices(rng: np.random.Generator, pools: Pools, classes: Sequence[str], n: int) -> np.ndarray:
    """n examples for queries of classes other than `classes`, each as likely; nothing is taken from `rng`
    if n is 0."""
    if not n:
        return np.empty(0, np.int64)
    inside = set(classes)
    return rng.choice(
        np.concatenate([pair[1] for name, pair in pools.items() if name not in inside]), n, replace=False
    )
