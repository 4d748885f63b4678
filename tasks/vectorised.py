"""Drawing many tasks at once: random access into one stream, and a shuffle of all their rows together.

Task i takes the words i·w … (i + 1)·w − 1 of the stream of PCG64 (O'Neill 2014), which can skip ahead, so
that it is a pure function of (seed, i) whether it is drawn alone or in a block. The shuffle is that of Fisher
and Yates, stopped after as many places as are needed:

    for j = 0 … k − 1:   swap places j and j + ⌊u_j (m − j)⌋ ,        u_j ~ U[0, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Block", "Table", "draw_block", "first_of_shuffled"]


@dataclass(frozen=True, eq=False)
class Table:
    """The indices of each class's examples, as rows of one array.

    Args:
        rows: int64 [classes, most examples of a class], padded at the end.
        counts: int64 [classes].
    """

    rows: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, pools: Sequence[np.ndarray]) -> Table:
        """From int64 [m] per class."""
        counts = np.array([len(pool) for pool in pools])
        rows = np.zeros((len(pools), counts.max()), np.int64)
        for row, pool in zip(rows, pools, strict=True):
            row[: len(pool)] = pool
        return cls(rows, counts)


class Block(NamedTuple):
    """What was drawn for T tasks of n classes."""

    classes: np.ndarray  # int64 [T, n], rows of the tables
    support: np.ndarray  # int64 [T, n, k], indices of examples
    query: np.ndarray  # int64 [T, n, q]
    seeds: np.ndarray  # int64 [T], for a transform's generator


def draw_block(
    seed: int,
    start: int,
    stop: int,
    for_support: Table,
    for_query: Table,
    *,
    ways: int,
    shots: int,
    queries: int,
) -> Block:
    """Tasks start … stop − 1; one table twice if supports and queries share their examples."""
    tasks, each = stop - start, shots + queries
    words = 1 + ways + ways * each
    uniform = np.random.Generator(np.random.PCG64(seed).advance(start * words)).random((tasks, words))
    seeds = (uniform[:, 0] * 2**53).astype(np.int64)
    everything = np.tile(np.arange(len(for_support.counts)), (tasks, 1))
    counts = np.full(tasks, len(for_support.counts))
    classes = first_of_shuffled(everything, counts, uniform[:, 1 : 1 + ways])
    chosen, u = classes.ravel(), uniform[:, 1 + ways :].reshape(tasks * ways, each)

    def examples(table: Table, u: np.ndarray) -> np.ndarray:
        drawn = first_of_shuffled(table.rows[chosen], table.counts[chosen], u)
        return drawn.reshape(tasks, ways, -1)

    if for_support is for_query:
        drawn = examples(for_support, u)
        return Block(classes, drawn[..., :shots], drawn[..., shots:], seeds)
    return Block(classes, examples(for_support, u[:, :shots]), examples(for_query, u[:, shots:]), seeds)


def first_of_shuffled(rows: np.ndarray, counts: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The first k of each row after a shuffle of its first `counts` places; `rows` is overwritten.

    Args:
        rows: [R, m].
        counts: int64 [R], between k and m.
        uniform: [R, k] in [0, 1).

    Example:
        >>> first_of_shuffled(np.array([[10, 20, 30, 0]]), np.array([3]), np.array([[0.9, 0.0]]))
        array([[30, 20]])
    """
    k = uniform.shape[1]
    places = np.arange(k)
    swap = places + (uniform * (counts[:, None] - places)).astype(np.int64)  # [R, k]
    swap += (np.arange(len(rows)) * rows.shape[1])[:, None]  # places in the flat array
    rows = np.ascontiguousarray(rows)
    flat = rows.reshape(-1)  # the same memory
    drawn = np.empty((len(rows), k), rows.dtype)
    for j in range(k):
        drawn[:, j] = flat[swap[:, j]]
        flat[swap[:, j]] = rows[:, j]  # what was at place j; nothing looks at that place again
    return drawn
