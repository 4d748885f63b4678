"""The contract of distributions of tasks: an episode is a pure function of (seed, index), its rows are
labelled class by class, and no example is in two parts of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

import tasks
from tasks import (
    Conditions,
    Corrupted,
    Corruption,
    Curriculum,
    Digits,
    Distribution,
    Episode,
    FunctionTasks,
    Gridworld,
    GroupedTasks,
    Mixture,
    NoisyLabels,
    Sinusoid,
    Tasks,
    WithViews,
    from_source,
)
from tasks.elsewhere import with_seed
from tests.helpers import make_source


def base(size: int = 8) -> Distribution:
    return Distribution(Digits(size=size), 3, 2, 2, "support", "query")


DISTRIBUTIONS: dict[str, Callable[[], Tasks]] = {
    "conditions": lambda: Conditions(Digits(size=8), None, 2, 2, "support", "query"),
    "conditions, one split": lambda: Conditions(make_source(), None, 2, 2, "train", unlabelled=3),
    "conditions, nothing labelled": lambda: Conditions(make_source(), None, 0, 2, "train", unlabelled=3),
    "corrupted": lambda: Corrupted(base(), Corruption("gaussian_noise"), "both"),
    "curriculum": lambda: Curriculum(
        {0: base(), 2: Distribution(Digits(size=8), 2, 1, 1, "support", "query")}
    ),
    "distribution": lambda: base(),
    "distribution, vectorised": lambda: Distribution(make_source(), 3, 2, 2, vectorised=True),
    "from_source": lambda: from_source(make_source(), 3, 2, 2),
    "function_tasks": lambda: FunctionTasks(Sinusoid(), 3, 4),
    "grouped_tasks": lambda: GroupedTasks(Gridworld(size=5), 2, 2, "test"),
    "mixture": lambda: Mixture(
        {"a": base(size=16), "b": Conditions(make_source(), None, 2, 2, unlabelled=2)}
    ),
    "noisy_labels": lambda: NoisyLabels(base(), 0.3),
    "with_views": lambda: WithViews(base(), 2),
}
#: What has tasks that nobody draws, or is drawn from tables of one's own: tests of their own.
ELSEWHERE = {"fixed_tasks", "own_tasks", "row_tasks"}


def test_every_distribution_has_a_row() -> None:
    assert {*tasks.DISTRIBUTIONS} == {name.split(",")[0] for name in DISTRIBUTIONS} | ELSEWHERE


def tensors(episode: Episode) -> list[torch.Tensor]:
    further = (episode.meta.unlabelled_x, episode.meta.outside_x, episode.meta.clean_y)
    return [*episode[:4], *(tensor for tensor in further if tensor is not None)]


def same(a: Episode, b: Episode) -> bool:
    pairs = zip(tensors(a), tensors(b), strict=True)
    told = all(
        getattr(a.meta, name) == getattr(b.meta, name)
        for name in ("index", "seed", "classes", "parameters", "group", "domain")
    )
    return told and all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_episodes_are_pure(name: str) -> None:
    drawn = DISTRIBUTIONS[name]()
    forwards = [*drawn.episodes(0, 5)]
    again = DISTRIBUTIONS[name]()
    for index in (4, 0, 2, 3, 1):
        assert same(again.episode(index), forwards[index])
        for tensor in tensors(again.episode(index)):
            tensor.zero_()  # what was handed out is the caller's
        assert same(again.episode(index), forwards[index])
    others = [*with_seed(drawn, 1).episodes(0, 5)]
    assert not all(map(torch.equal, (a.query_x for a in forwards), (b.query_x for b in others)))
    assert len({tuple(episode.query_x.flatten().tolist()) for episode in forwards}) == 5


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_episodes_are_labelled_row_by_row(name: str) -> None:
    drawn = DISTRIBUTIONS[name]()
    json.dumps(drawn.described)
    for episode in drawn.episodes(0, 5):
        meta = episode.meta
        for x, y in ((episode.support_x, episode.support_y), (episode.query_x, episode.query_y)):
            assert x.shape == (len(y), *drawn.source.shape) and x.dtype == torch.float32
            assert bool(torch.isfinite(x).all())
            if drawn.regression:
                assert y.dtype == torch.float32 and y.ndim == 2 and not meta.classes
                continue
            assert y.dtype == torch.int64
            if "noisy" not in name or x is episode.query_x:
                assert y.tolist() == sorted(y.tolist())
            if len(y):
                assert {*y.tolist()} == {*range(len(meta.classes))}
        parts = [meta.support_indices, meta.query_indices]
        parts += [rows for rows in (meta.unlabelled_indices, meta.outside_indices) if rows is not None]
        rows = np.concatenate(parts)
        assert len({*rows.tolist()}) == len(rows), "an example is in two parts"
        if (x := meta.unlabelled_x) is not None:
            assert meta.unlabelled_indices is not None and len(x) == len(meta.unlabelled_indices)
