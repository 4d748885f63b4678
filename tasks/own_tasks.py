"""Tasks of one's own data, as large as the data allow where nobody says how large."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .distribution import Distribution
from .fixed import FixedTasks
from .from_source import from_source
from .grouped import GroupedTasks
from .meta_dataset import MetaDataset
from .pools import Pools, beyond, common_classes
from .sizes import Size
from .source import AnySource, TaskError
from .transforms import Transform
from .values import RowTasks, ValueSource

__all__ = ["Sizes", "own_tasks", "said", "sizes_for"]

#: Of the examples of the smallest class, what goes to supports and to queries where it has few, …
FEW = (0.6, 0.4)
#: … and where it has many: half of them stay out of each task, so that tasks are not all the same.
MANY = (0.3, 0.2)
#: Examples of a class, or rows, up to which the first shares count.
ENOUGH = 5
#: The split of data of which nothing is held back.
ALL = "all"


class Sizes(NamedTuple):
    """Shots and queries per class, or of all rows."""

    shots: int
    queries: int


def own_tasks(
    source: AnySource,
    ways: Size | None = None,
    shots: Size | None = None,
    queries: Size | None = None,
    support_split: str | None = None,
    query_split: str | None = None,
    seed: int = 0,
    validation: Mapping[str, Any] | None = None,
    *,
    most: int | None = None,
    transform: Transform | None = None,
    replace: bool = False,
    imbalanced: bool = False,
    sizes: MetaDataset | None = None,
    outside: int = 0,
    vectorised: bool = False,
) -> Distribution | FixedTasks | GroupedTasks | RowTasks | Any:
    """Tasks of `source`, whatever it holds. A training set with its test set is one fixed task
    (:class:`FixedTasks`), unless a size is given; all else is divided anew in every task.

    Args:
        ways, shots, queries: None: all classes, and as many examples as the smallest class allows
            (:func:`sizes_for`).
        support_split, query_split: None: those that the source has for this.
        most: shots and queries per class are no more than this, where they are not given.
        validation, transform, replace, imbalanced, sizes, outside, vectorised: see :class:`Distribution`.

    Raises:
        TaskError: no such task can be drawn; the message names the limits.

    Example:
        >>> from tasks import Digits
        >>> tasks = own_tasks(Digits(), most=5)
        >>> tasks.ways, tasks.shots, tasks.queries
        (10, 5, 5)
    """
    given = [size for size in (ways, shots, queries, sizes) if size is not None]
    if getattr(source, "published", ()) and not given and support_split is None:
        return FixedTasks(source, seed, validation=validation)
    support_split, query_split = _splits(source, support_split, query_split)
    common: dict[str, Any] = {
        "support_split": support_split,
        "query_split": query_split,
        "seed": seed,
        "validation": validation,
    }
    if isinstance(source, ValueSource):
        rooms = _rooms([(source.rows(support_split), source.rows(query_split or support_split))], query_split)
        found = sizes_for(*rooms)
        return RowTasks(source, _number(shots, found.shots), _number(queries, found.queries), **common)
    if getattr(source, "grouped", False) or getattr(source, "regression", False):
        at_most = most or 5
        return from_source(
            source,
            ways,
            at_most if shots is None else shots,
            at_most if queries is None else queries,
            **common,
        )
    examples: Any = source
    pools = common_classes(examples, support_split, query_split)
    found = sizes_for(*_rooms([*pools.values()], query_split if query_split != support_split else None), most)
    # What is learned over many tasks is learned on small ones.
    if ways is None and support_split in (ALL, "support") and len(pools) > 1:
        ways = len(pools)
    shots, queries = _number(shots, found.shots), _number(queries, found.queries)
    if sizes is None and not replace:
        _check_all(pools, source=source, ways=ways or 2, shots=shots, queries=queries, **common)
    return Distribution(
        examples,
        ways,
        shots,
        queries,
        transform=transform,
        replace=replace,
        imbalanced=imbalanced,
        sizes=sizes,
        outside=outside,
        vectorised=vectorised,
        **common,
    )


def sizes_for(support: int, query: int | None, most: int | None = None) -> Sizes:
    """Shots and queries for the smallest class.

    Of few examples three of five are supports and two are queries. Of many, three and two of ten: tasks that
    share more than half of what they are drawn from are, together, less evidence than two of them.

    Args:
        support: its examples for supports.
        query: those for queries; None: both are drawn from the same ones.
        most: of either.

    Example:
        >>> [sizes_for(*rooms)[:2] for rooms in ((6, None), (40, None), (4, 2))]
        [(4, 2), (12, 8), (4, 2)]
    """
    if query is None:
        queries = max(round(FEW[1] * support), 1)
        shots = max(support - queries, 1)
        limits = [max(ENOUGH, int(share * support)) for share in MANY]
        found = min(shots, limits[0]), min(queries, limits[1])
    else:
        # Half of each pool, for the same reason.
        found = min(support, max(ENOUGH, support // 2)), min(query, max(ENOUGH, query // 2))
    shots, queries = (min(size, most) if most else size for size in found)
    return Sizes(shots, queries)


def _splits(source: AnySource, support: str | None, query: str | None) -> tuple[str, str | None]:
    """The splits of a plain comparison, where nobody names them."""
    if support is not None:
        return support, query
    published = [split for split in getattr(source, "published", ()) if split in source.splits]
    for split, other in (
        (ALL, None),
        *((one, "query") for one in published),
        ("support", "query"),
        ("test", None),
    ):
        if split in source.splits:
            return split, query if query is not None else other
    raise TaskError(
        f"{source.name}: which examples are tasks drawn from? Set task.support_split, one of "
        f"{', '.join(source.splits)}"
    )


def _rooms(pools: list[tuple[np.ndarray, np.ndarray]], query_split: str | None) -> tuple[int, int | None]:
    """Examples of the smallest pools for supports and queries; None: they are the same."""
    support = min(len(pair[0]) for pair in pools)
    return support, None if query_split is None else min(len(pair[1]) for pair in pools)


def _check_all(pools: Pools, **asked: Any) -> None:
    """Raise with every limit that is passed: whoever mends one should know of the others."""
    if all(not isinstance(asked[name], int) or asked[name] > 0 for name in ("ways", "shots", "queries")):
        limits = [*beyond(pools, SimpleNamespace(**asked, transform=None, replace=False, outside=0))]
        if limits:
            raise TaskError("; and ".join(limits))


def _number(size: Size | None, default: int) -> Any:
    return default if size is None else size


def said(tasks: Any) -> str:
    """How large tasks of one's own data are, and why, in a line; empty for tasks of groups.

    Args:
        tasks: that draw from a source themselves.
    """
    if isinstance(tasks, FixedTasks):
        return tasks.said
    change = "(task.ways, task.shots, task.queries change it)"
    if isinstance(tasks, RowTasks):
        return f"{tasks.shots} rows to learn from and {tasks.queries} to predict in each task {change}"
    if not isinstance(tasks, Distribution):
        return ""
    members = tasks.source.classes(tasks.support_split)
    smallest = min(tasks.class_names, key=lambda name: len(members[name]))
    classes = len(tasks.class_names)
    ways = f"all {classes} classes" if tasks.ways == classes else f"{tasks.ways} of {classes} classes"
    several = "shot" if tasks.shots == 1 else "shots"
    asked = "query" if tasks.queries == 1 else "queries"
    return (
        f"{ways}, {tasks.shots} {several} and {tasks.queries} {asked} of each: the smallest, {smallest!r}, "
        f"has {len(members[smallest])} examples {change}"
    )
