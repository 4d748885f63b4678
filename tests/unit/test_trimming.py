"""Adapting without the examples whose labels look wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import adapt
from adapt import AdaptError
from adapt.inner import GaussNewton
from tests.unit.test_conformal import HEAD_ONLY, adapter, clouds


@pytest.mark.parametrize("solver", [HEAD_ONLY, GaussNewton()])
def test_wrong_labels_are_left_out_and_the_rest_is_adapted_to(solver: GaussNewton) -> None:
    x, y = clouds(30, apart=6.0)
    wrong = torch.tensor([2, 9, 19])
    y[wrong] = (y[wrong] + 1) % 3
    ours = adapter(solver=solver)
    task = ours.fit(x, y, trim=True)
    assert "3 examples left out, whose label looks wrong" in task.trace.choice and task.memory is None
    rest = torch.ones(30, dtype=torch.bool)
    rest[wrong] = False
    new = clouds(20, seed=4)[0]
    torch.testing.assert_close(task.logits(new), ours.fit(x[rest], y[rest]).logits(new))


def test_where_all_labels_look_right_nothing_is_left_out() -> None:
    x, y = clouds(30, apart=4.0)
    plain, trimmed = (adapter(solver=HEAD_ONLY).fit(x, y, trim=trim) for trim in (False, True))
    assert trimmed.trace.choice == plain.trace.choice and torch.equal(trimmed.logits(x), plain.logits(x))
    assert adapter(solver=HEAD_ONLY).fit(x, y, trim=True, keep=True).memory is not None


def test_two_of_every_class_stay() -> None:
    x, y = clouds(30, apart=3.0)
    labels = ["right", "also", "third"]
    names = [labels[int(i)] for i in y]
    for row in (0, 1, 2):  # three of a class that looks like others
        names[row] = "odd"
    task = adapter(solver=HEAD_ONLY).fit(x, names, trim=True, keep=True)
    assert task.memory is not None and set(task.classes_) == {*labels, "odd"}
    assert np.bincount(task.memory.targets.argmax(1)).min() >= 2


def test_it_cannot_be_watched() -> None:
    x, y = clouds(12)
    with pytest.raises(AdaptError, match="trim: a task that is fitted twice cannot be watched"):
        adapter().fit(x, y, trim=True, on_step=lambda make: None)


def test_values_cannot_be_trimmed() -> None:
    x = torch.linspace(-3, 3, 8)[:, None]
    with pytest.raises(AdaptError, match="trim: values have no labels"):
        adapt.load("mlp_sinusoid").fit(x, x.sin(), trim=True)
