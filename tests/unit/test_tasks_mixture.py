"""Mixtures: components as often as they should, their own episodes, one source over all."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import (
    ArraySource,
    Card,
    Combined,
    Corrupted,
    Corruption,
    Digits,
    Distribution,
    FunctionTasks,
    Mixture,
    Sinusoid,
    Source,
    TaskError,
)
from tests.unit.test_tasks_distribution import same, source

A, B = source({"train": [9] * 4, "test": [5] * 3}, "a"), source({"train": [7] * 3, "own": [8] * 3}, "b")
FIRST = Distribution(A, 3, 2, 2, outside=1)
SECOND = Distribution(B, 2, 1, 3, support_split="own")
MIXED = Mixture({"a": FIRST, "b": SECOND}, {"a": 1, "b": 3}, seed=4)


def test_components_come_as_often_as_their_weights_say() -> None:
    picked = Counter(MIXED.episode(i).meta.classes[0][0] for i in range(800))
    assert scipy.stats.chisquare([picked["a"], picked["b"]], [200, 600]).pvalue > 1e-3
    assert {MIXED.episode(i).meta.classes[0][0] for i in range(40)} == {"a", "b"}
    even = Counter(Mixture({"a": FIRST, "b": SECOND}).episode(i).meta.classes[0][0] for i in range(400))
    assert scipy.stats.chisquare([*even.values()]).pvalue > 1e-3
    other = Mixture({"a": FIRST, "b": SECOND}, {"a": 1, "b": 3}, seed=5)
    assert [len(other.episode(i).meta.classes) for i in range(40)] != [
        len(MIXED.episode(i).meta.classes) for i in range(40)
    ]


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 2**40))
def test_an_episode_is_that_of_its_component(index: int) -> None:
    episode = MIXED.episode(index)
    name = episode.meta.classes[0].split("/")[0]
    own = {"a": FIRST, "b": SECOND}[name].episode(index)
    assert all(torch.equal(x, y) for x, y in zip(episode[:4], own[:4], strict=True))
    assert episode.meta.classes == tuple(f"{name}/{label}" for label in own.meta.classes)
    assert same(episode, MIXED.episode(index)) and same(episode, next(MIXED.episodes(index, index + 1)))
    # Through the combined source, its indices and names lead to the same examples.
    assert torch.equal(MIXED.source.load(episode.meta.support_indices), episode.support_x)
    assert torch.equal(MIXED.source.load(episode.meta.query_indices), episode.query_x)
    if episode.meta.outside_indices is not None:
        assert episode.meta.outside_x is not None and name == "a"
        assert torch.equal(MIXED.source.load(episode.meta.outside_indices), episode.meta.outside_x)
    pools = MIXED.source.classes("train" if name == "a" else "own")
    for label, index_ in zip(episode.support_y.tolist(), episode.meta.support_indices, strict=True):
        assert index_ in pools[episode.meta.classes[label]]


def test_sizes_are_those_of_all_components() -> None:
    assert (str(MIXED.ways), str(MIXED.shots), str(MIXED.queries)) == ("2|3", "1|2", "2|3")
    same_size = Mixture({"x": SECOND, "y": Distribution(B, 2, 1, 3)})
    assert (same_size.ways, same_size.shots, same_size.queries) == (2, 1, 3)


def test_wrapped_components_are_mixed_too() -> None:
    tasks = Distribution(Digits(size=16), 2, 1, 2, support_split="support")
    both = Mixture({"clean": tasks, "bad": Corrupted(tasks, Corruption("contrast", 5))})
    spread = {e.meta.classes[0].split("/")[0]: float(e.query_x.std()) for e in both.episodes(0, 20)}
    assert spread["bad"] < 0.2 * spread["clean"]


# --------------------------------------------------------------------------------- the combined source


@pytest.mark.parametrize("make", [Mixture, Combined])
def test_parts_have_names(make: Any) -> None:
    with pytest.raises(TaskError, match=r"is a tuple: give each a name, as in \{'old'"):
        make((Digits(), Digits()))


def test_combined_is_a_source() -> None:
    both = Combined({"a": A, "b": B})
    assert isinstance(both, Source)
    assert (both.name, both.splits, both.shape) == ("a + b", ("train", "test", "own"), (1, 1, 2))
    assert [*both.classes("train")] == ["a/c0", "a/c1", "a/c2", "a/c3", "b/c0", "b/c1", "b/c2"]
    assert [*both.classes("test")] == ["a/c0", "a/c1", "a/c2"]
    everything = np.concatenate([*both.classes("train").values(), *both.classes("test").values()])
    assert len(set(everything.tolist())) == len(everything) == 36 + 21 + 15
    x = both.load(np.array([80, 0, 51, 50, 3]))
    assert x[:, 0, 0, 0].tolist() == [29, 0, 0, 50, 3], "a has 51 examples, each holds its own index"
    assert both.load(np.empty(0, np.int64)).shape == (0, 1, 1, 2)
    with pytest.raises(TaskError, match="a \\+ b has no split 'x': use one of train, test, own"):
        both.classes("x")
    digests = {part.digest() for part in (both, Combined({"b": B, "a": A}), Combined({"a": A, "c": B}), A)}
    assert len(digests) == 4 and both.digest() == Combined({"a": A, "b": B}).digest()


def test_a_component_may_call_its_split_otherwise() -> None:
    """As the pool that retraining asks for needs it."""
    assert [*MIXED.source.classes("test")] == [*(f"a/c{i}" for i in range(3)), *(f"b/c{i}" for i in range(3))]
    assert MIXED.source.classes("test")["b/c0"].min() >= MIXED.source.offsets["b"] + 21


def test_the_card_says_what_holds_of_the_whole() -> None:
    def part(name: str, commercial: bool | None, domain: str) -> ArraySource:
        card = Card(
            name, "d", "o", f"L{name}", "t", {"examples": 2}, (f"leak {name}",), "no", domain, commercial
        )
        return ArraySource(card, np.zeros((2, 1)), {"train": {"x": np.array([0, 1])}})

    free, bound, unclear = part("f", True, "vision"), part("b", False, "text"), part("u", None, "vision")
    card = Combined({"f": free, "b": bound}).card
    assert card.licence == "f: Lf; b: Lb" and card.known_issues == ("f: leak f", "b: leak b")
    assert card.counts == {"f examples": 2, "b examples": 2} and card.domain == "vision, text"
    assert json.loads(json.dumps(card.to_dict())) == card.to_dict()
    commercial = [
        Combined(dict(zip("xyz", parts, strict=False))).card.commercial
        for parts in ((free, free), (free, unclear), (free, unclear, bound))
    ]
    assert commercial == [True, None, False]


def test_sources_of_different_shapes_are_loaded_one_at_a_time() -> None:
    small, large = Digits(size=8), Digits(size=16)
    both = Combined({"small": small, "large": large})
    assert both.shape == () and both.load(np.array([1797, 1798])).shape == (2, 1, 16, 16)
    with pytest.raises(TaskError, match="differ in the shape of examples"):
        both.load(np.array([0, 1797]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixture({"a": FIRST}), "has 1 entries: give at least two"),
        (lambda: Mixture({"a": FIRST, "b": SECOND}, {"a": 1}), "do not fit task.components a, b"),
        (lambda: Mixture({"a": FIRST, "b": SECOND}, {"a": 1, "b": 0}), "give a positive weight for each"),
        (lambda: Mixture({"a": FIRST, "f": FunctionTasks(Sinusoid())}), "task.components.f has no classes"),
        (lambda: Mixture({"a": FIRST, "b": SECOND}, seed=-1), "task.seed=-1"),
        (lambda: MIXED.episode(-1), "episode index -1 is negative"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make()
