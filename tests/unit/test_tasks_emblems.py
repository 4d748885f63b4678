"""Emblems: classes that differ, examples that vary, and the same ones for a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapt.heads import Prototype, one_hot
from tasks import Distribution, Emblems, TaskError


@pytest.fixture(scope="module")
def emblems() -> Emblems:
    return Emblems(size=16, classes=40, per_class=8)


def test_splits_are_disjoint_in_classes(emblems: Emblems) -> None:
    found = [set(emblems.classes(split)) for split in ("train", "validation", "test")]
    assert [*map(len, found)] == [28, 6, 6] and len(set.union(*found)) == 40
    rows = np.concatenate([it for split in emblems.splits for it in emblems.classes(split).values()])
    assert sorted(rows.tolist()) == [*range(320)]


def test_a_seed_draws_the_same_and_more_classes_change_none(emblems: Emblems) -> None:
    first = emblems.load(np.arange(160))
    assert torch.equal(first, Emblems(size=16, classes=20, per_class=8).load(np.arange(160)))
    assert not torch.equal(first, Emblems(size=16, classes=20, per_class=8, seed=1).load(np.arange(160)))


def test_examples_of_a_class_differ_less_than_classes_do(emblems: Emblems) -> None:
    """Nearest means of plain pixels know more than chance, and far from everything."""
    right = []
    for episode in Distribution(emblems, 5, 4, 4, "train").episodes(0, 20):
        support, query = episode.support_x.flatten(1), episode.query_x.flatten(1)
        head = Prototype()
        state = head.fit(support, one_hot(episode.support_y, 5))
        right.append(float((head.logits(state, query).argmax(1) == episode.query_y).float().mean()))
    assert 0.35 < float(np.mean(right)) < 0.98
    assert len(np.unique(emblems.load(np.arange(320)).flatten(1).numpy(), axis=0)) == 320


@pytest.mark.parametrize("settings", [{"classes": 5}, {"per_class": 1}, {"size": 2}, {"seed": -1}])
def test_settings_that_make_no_sense(settings: dict[str, int]) -> None:
    with pytest.raises(TaskError, match=f"emblems: {next(iter(settings))}="):
        Emblems(**settings)
