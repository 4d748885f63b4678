"""Which examples of which classes tasks are drawn from, and whether there are enough of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from .sizes import Size, most
from .source import Source, TaskError

__all__ = ["Asked", "Pools", "beyond", "check_outside", "check_sizes", "common_classes", "outside_indices"]

#: Class name -> (indices for supports, indices for queries); one array twice if the splits are equal.
Pools = dict[str, tuple[np.ndarray, np.ndarray]]


class Asked(Protocol):
    """What is asked of the pools: the settings of `Distribution` of the same names, with a number of ways."""

    @property
    def source(self) -> Source: ...
    @property
    def ways(self) -> Size | None: ...
    @property
    def shots(self) -> Size: ...
    @property
    def queries(self) -> Size: ...
    @property
    def support_split(self) -> str: ...
    @property
    def query_split(self) -> str | None: ...
    @property
    def transform(self) -> Any: ...
    @property
    def replace(self) -> bool: ...
    @property
    def outside(self) -> int: ...


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


def check_sizes(pools: Pools, tasks: Asked) -> None:
    """Raise if the largest task that may be drawn asks for more classes or examples than there are."""
    for limit in beyond(pools, tasks):
        raise TaskError(limit)


def beyond(pools: Pools, tasks: Asked) -> Iterator[str]:
    """Every limit that is passed, in a sentence each: whoever mends one should know of the others."""
    assert tasks.ways is not None
    name, split = tasks.source.name, tasks.support_split
    if most(tasks.ways) > len(pools):
        where = f"in split {split!r}"
        if len(pools) < len(tasks.source.classes(split)):
            where = f"common to splits {split!r} and {tasks.query_split!r}"
        asked_ways = f"task.ways={tasks.ways} but {name} has {len(pools)} classes {where}"
        yield f"{asked_ways}: use task.ways<={len(pools)}"
    shots, queries = most(tasks.shots), most(tasks.queries)
    if tasks.query_split not in (None, split):
        fewest = (1, 1) if tasks.replace else (shots, queries)
        asked = (f"task.shots={tasks.shots}", f"task.queries={tasks.queries}")
        yield from _smallest(pools, tasks, 0, fewest[0], asked[0], "use task.shots<={}")
        yield from _smallest(pools, tasks, 1, fewest[1], asked[1], "use task.queries<={}")
    else:
        both = shots + queries
        together = f"task.shots={tasks.shots} and task.queries={tasks.queries} need {both} examples per class"
        yield from _smallest(
            pools, tasks, 0, 2 if tasks.replace else both, together, "use at most {} together"
        )


def _smallest(pools: Pools, tasks: Asked, side: int, fewest: int, asked: str, fix: str) -> Iterator[str]:
    """A sentence if a class has less than `fewest` examples for supports (side 0) or queries (side 1)."""
    smallest = min(pools, key=lambda name: len(pools[name][side]))
    have = len(pools[smallest][side])
    if have >= fewest:
        return
    if tasks.replace:
        asked, fix = f"task.replace=true needs {fewest} examples per class", "leave that class out"
    elif tasks.transform is not None:
        fix += ", or task.replace=true"
    split = tasks.query_split if side else tasks.support_split
    place = f"class {smallest!r} of {tasks.source.name} has {have} in split {split!r}"
    yield f"{asked} but {place}: {fix.format(have)}"


def check_outside(pools: Pools, tasks: Asked) -> None:
    """Raise if the classes that a task leaves out may have fewer examples than it asks for."""
    assert tasks.ways is not None
    sizes = np.sort([len(for_query) for _, for_query in pools.values()])
    left = sizes[: max(len(pools) - most(tasks.ways), 0)].sum()
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
