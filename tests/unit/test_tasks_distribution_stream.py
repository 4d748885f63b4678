"""Episodes stay what they were: published results depend on the stream. And the fast stream is as good."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import ArraySource, Distribution, Episode, TaskError
from tasks.vectorised import Table, draw_block, first_of_shuffled
from tests.unit.test_tasks_distribution import check, same, source, unchanged


def stamped(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shows which generator it was given."""
    return x + generator.initial_seed() % 1009


def toy() -> ArraySource:
    return source({"train": [30, 25, 21, 40, 33, 20, 200], "few": [3, 5, 2, 9, 4, 7, 3], "test": [30] * 7})


def digest(tasks: Any, indices: tuple[int, ...] = (0, 1, 2, 17, 10**6)) -> str:
    """sha256 of all that some episodes hold."""
    sha = hashlib.sha256()
    for index in indices:
        episode: Episode = tasks.episode(index)
        for tensor in episode[:4]:
            sha.update(repr(tuple(tensor.shape)).encode())
            sha.update(np.ascontiguousarray(tensor.numpy()).astype("<f8").tobytes())
        sha.update(repr(episode.meta.classes).encode())
        sha.update(episode.meta.support_indices.astype("<i8").tobytes())
        sha.update(episode.meta.query_indices.astype("<i8").tobytes())
    return sha.hexdigest()


#: From the code before sizes could vary: these may never change.
ORIGINAL: dict[str, tuple[dict[str, Any], str]] = {
    "one split": ({}, "c76c57489be66e8c932fbbcfb416e9d7f99b6032bf643a2d9a130765ba5a581b"),
    "one shot": (
        {"ways": 7, "shots": 1, "queries": 1, "seed": 3},
        "b5c23753d4b84e8d95a5562333d313605f9d43e3ff3af4b0180c8b52c7541659",
    ),
    "two splits": (
        {"shots": 4, "queries": 6, "query_split": "test", "seed": 1},
        "c0576a734aee5f47a09acbf04034d6ad797aeeb57a413d0428699efc3544e255",
    ),
    "transform": (
        {"ways": 3, "shots": 2, "queries": 3, "transform": stamped, "seed": 1099511627776},
        "433b0246d3aac13a59f6b635ea3910bee6a72b38a8fcb6d62b1804d4940fcaff",
    ),
    "replace": (
        {"support_split": "few", "transform": stamped, "replace": True, "shots": 5, "queries": 7},
        "cb1662f3c3b75d3c579b420340793e80505ddbda5ae9fdf6056677965c3060a2",
    ),
    "replace, two splits": (
        {
            "support_split": "few",
            "query_split": "test",
            "transform": stamped,
            "replace": True,
            "shots": 4,
            "queries": 40,
        },
        "a27fce425b092d1c3287701895ddd78a85069e67f3c4ff7456b2aecfca837ca9",
    ),
    "full class": (
        {"ways": 2, "shots": 10, "queries": 10},
        "b0fc54708c3c96cfb3cbedc3617d7257c4d783f09c06d491b7fb9bd584a5a061",
    ),
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_the_stream_of_plain_numbers_never_changes(name: str) -> None:
    arguments, expected = ORIGINAL[name]
    assert digest(Distribution(toy(), **arguments)) == expected


# --------------------------------------------------------------------------------- the vectorised stream


def test_the_vectorised_stream_never_changes() -> None:
    fast = {"vectorised": True, "ways": 3, "shots": 2, "queries": 3}
    assert (
        digest(Distribution(toy(), **fast))
        == "109335b7f53eee49c3b7e99eaf0346a0fba6f3de6c9ca7f885a364ecadb15b8b"
    )
    assert (
        digest(Distribution(toy(), **fast, query_split="test", transform=stamped, seed=5))
        == "b7503983a6282104a3aa50d46dd8064cdc0bd6d9783e9cdaa5f75c1c83c03a34"
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**63 - 1), index=st.integers(0, 2**40), two=st.booleans())
def test_vectorised_episodes_keep_all_promises(data: st.DataObject, seed: int, index: int, two: bool) -> None:
    shots, queries = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    need = shots + queries
    sizes = data.draw(st.lists(st.integers(need, need + 3), min_size=2, max_size=6))
    ways = data.draw(st.integers(2, len(sizes)))
    split = {"query_split": "test"} if two else {}
    both = source({"train": sizes, "test": sizes})
    check(Distribution(both, ways, shots, queries, seed=seed, vectorised=True, **split), index)


def test_a_block_holds_the_episodes_one_by_one() -> None:
    tasks = Distribution(toy(), 3, 2, 2, transform=stamped, vectorised=True)
    block = [*tasks.episodes(60, 140)]  # crosses the blocks that are drawn at once
    assert [episode.meta.index for episode in block] == [*range(60, 140)]
    assert all(same(episode, tasks.episode(episode.meta.index)) for episode in block)
    later = [*pickle.loads(pickle.dumps(tasks)).episodes(99, 101)]
    assert all(same(a, b) for a, b in zip(later, block[39:41], strict=True))
    assert not same(block[0], block[1])
    assert not same(
        block[0], Distribution(toy(), 3, 2, 2, transform=stamped, seed=1, vectorised=True).episode(60)
    )


def test_every_task_of_a_small_problem_is_as_likely() -> None:
    """Ordered pairs of 4 classes, and 1 + 1 of 3 examples of each: 12 · 6 · 6 tasks, by the χ² test."""
    table = Table.of([np.arange(3) + 3 * c for c in range(4)])
    block = draw_block(3, 0, 43_200, table, table, ways=2, shots=1, queries=1)
    drawn = np.concatenate([block.support.reshape(-1, 2), block.query.reshape(-1, 2)], axis=1)
    counts = Counter(map(tuple, drawn.tolist()))
    assert len(counts) == 12 * 36
    assert scipy.stats.chisquare([*counts.values()]).pvalue > 1e-3


def test_partial_shuffle_is_the_one_by_hand() -> None:
    rows = np.array([[1, 2, 3, 4], [5, 6, 7, 0]])
    counts, k = np.array([4, 3]), 3
    uniform = np.random.default_rng(0).random((2, k))
    expected = []
    for row, count, numbers in zip(rows.tolist(), counts.tolist(), uniform, strict=True):
        for j, u in enumerate(numbers):
            other = j + int(u * (count - j))
            row[j], row[other] = row[other], row[j]
        expected.append(row[:k])
    assert first_of_shuffled(rows.copy(), counts, uniform).tolist() == expected
    orders = {
        tuple(first_of_shuffled(np.array([[0, 1, 2]]), np.array([3]), np.array([[a, b, 0.0]]))[0].tolist())
        for a in (0.1, 0.5, 0.9)
        for b in (0.1, 0.9)
    }
    assert orders == {*permutations(range(3))}


@pytest.mark.parametrize(
    "arguments",
    [{"replace": True, "transform": unchanged}, {"outside": 2}, {"shots": "uniform"}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_vectorised_needs_tasks_of_one_size(arguments: dict[str, Any]) -> None:
    from tasks import Uniform

    arguments = {k: Uniform(1, 2) if v == "uniform" else v for k, v in arguments.items()}
    with pytest.raises(TaskError, match=r"task\.vectorised=true needs tasks of one size"):
        Distribution(toy(), 3, **{"shots": 2, "queries": 2, **arguments}, vectorised=True)
