"""Sets of labels, and examples of no class: against brute force, and as often as was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter, FittedTask
from adapt.adapter.nearness import Nearness
from adapt.heads import Logistic, Ridge, one_hot
from adapt.heads.base import normalise
from adapt.inner import GaussNewton
from adapt.spaces import full

HEAD_ONLY = GaussNewton(steps=0)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh()).requires_grad_(False)


def adapter(**parts: Any) -> FewShotAdapter:
    return FewShotAdapter.of(network(), full, **{"head": Logistic(), **parts})


def clouds(n: int, seed: int = 0, ways: int = 3, apart: float = 2.0) -> tuple[Tensor, Tensor]:
    """Points around a centre for each class, classes in turn."""
    generator = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(ways, 4, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(n) % ways
    return centres[labels] + torch.randn(n, 4, generator=generator), labels


def head_only(n: int = 18, **parts: Any) -> tuple[FittedTask, Tensor, Tensor]:
    x, y = clouds(n)
    return adapter(solver=HEAD_ONLY, **parts).fit(x, y, keep=True), x, y


def without_each(x: Tensor, y: Tensor, head: Any) -> Tensor:
    """Logits of each from the head fitted to all others, one by one."""
    features = network()(x)
    targets, rows = one_hot(y, 3), torch.arange(len(y))
    found = [head.fit(features[rows != i], targets[rows != i]) for i in rows]
    return torch.cat([head.logits(state, features[i : i + 1]) for i, state in enumerate(found)])


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_sets_are_those_of_refitting_without_each(coverage: float) -> None:
    task, x, y = head_only(head=Ridge())
    missing = 1 - without_each(x, y, Ridge()).softmax(1)[torch.arange(len(y)), y].numpy()
    most = np.sort(missing)[int(np.ceil((len(y) + 1) * coverage)) - 1]
    new = clouds(40, seed=3)[0]
    wanted = 1 - task.predict_proba(new) <= most + 1e-6
    assert np.array_equal(task.predict_set(new, coverage=coverage), wanted)


def test_of_too_few_examples_every_label_may_be_right() -> None:
    task, *_ = head_only(6)
    assert task.predict_set(clouds(5, seed=1)[0], coverage=0.9).all()
    assert not task.predict_set(clouds(5, seed=1)[0], coverage=0.8).all()


@pytest.mark.parametrize("solver", [HEAD_ONLY, GaussNewton()])
def test_the_right_label_is_in_the_set_as_often_as_was_asked(solver: GaussNewton) -> None:
    found, rejected = [], []
    for seed in range(60):
        x, y = clouds(45, seed=seed, apart=0.8)
        task = adapter(solver=solver).fit(x, y, keep=True)
        new, truth = clouds(60, seed=1000 + seed, apart=0.8)
        found.append(task.predict_set(new)[torch.arange(60), truth].mean())
        rejected.append(np.ma.getmaskarray(task.predict(new, reject=0.1)).mean())
    assert 0.88 < np.mean(found) < 0.95  # the 42nd of 45, and a head without one is poorer
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("fit", ["probability", "energy"])
def test_p_values_are_ranks_among_those_left_out(fit: Any) -> None:
    task, x, y = head_only(head=Ridge())
    new = clouds(20, seed=5)[0]
    own = without_each(x, y, Ridge())
    after = task.logits(new)
    of = {"probability": lambda it: it.softmax(1).amax(1), "energy": lambda it: it.logsumexp(1)}[fit]
    wanted = [(1 + int((of(own) <= value + 1e-6).sum())) / (len(x) + 1) for value in of(after)]
    np.testing.assert_allclose(task.belongs(new, fit=fit), wanted)


def distance(features: Tensor, y: Tensor, of: Tensor) -> float:
    """−min_c of one example, by dense matrices."""
    features, of = normalise(features.double()), normalise(of.double()[None])[0]
    means = torch.stack([features[y == c].mean(0) for c in range(3)])
    residuals = features - means[y]
    covariance = residuals.T @ residuals / len(y) + torch.eye(features.shape[1])
    gaps = of - means
    return -float(torch.einsum("cd,cd->c", gaps, torch.linalg.solve(covariance, gaps.T).T).min()) / len(of)


def test_distances_left_out_are_those_of_refitting_without_each() -> None:
    x, y = clouds(18)
    features, rows = network()(x), torch.arange(18)
    classes = Nearness.of(features, one_hot(y, 3))
    wanted = [distance(features[rows != i], y[rows != i], features[i]) for i in rows]
    np.testing.assert_allclose(classes.left_out(features, one_hot(y, 3)), wanted, rtol=1e-6)
    new = network()(clouds(5, seed=9)[0])
    np.testing.assert_allclose(classes.near(new), [distance(features, y, it) for it in new], rtol=1e-6)


def test_what_is_of_no_class_is_masked() -> None:
    task, x, _ = head_only(60)
    far = -40.0 * torch.ones(2, 4)
    found = task.predict(torch.cat([x[:6], far]), reject=0.05)
    assert isinstance(found, np.ma.MaskedArray) and found.dtype == task.classes_.dtype
    assert not np.ma.getmaskarray(found)[:6].all()
    assert (task.belongs(far, fit="distance") <= 1 / 61 + 1e-9).all()
    assert np.array_equal(found.data[:6], task.predict(x[:6])) and not np.ma.isMaskedArray(task.predict(x))


def test_the_temperature_is_where_the_slope_is_zero() -> None:
    task, x, y = head_only(head=Ridge())
    own = without_each(x, y, Ridge()).double()
    scale = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    for _ in range(2000):  # log τ, by plain descent
        loss = torch.nn.functional.cross_entropy(own * torch.exp(-scale), y, reduction="sum") + scale**2 / 2
        (slope,) = torch.autograd.grad(loss, scale)
        scale = (scale - 0.01 * slope).detach().requires_grad_(True)
    new = clouds(10, seed=2)[0]
    wanted = (task.logits(new).double() / scale.exp()).softmax(1).detach()
    np.testing.assert_allclose(task.predict_proba(new, tempered=True), wanted, atol=2e-3)


@pytest.mark.parametrize("solver", [HEAD_ONLY, GaussNewton()])
def test_saved_it_says_the_same(solver: GaussNewton, tmp_path: Path) -> None:
    x, y = clouds(18)
    task = adapter(solver=solver).fit(x, y, keep=True)
    task.save_pretrained(tmp_path / "task")
    again = adapt.load(tmp_path / "task", network())
    new = clouds(10, seed=2)[0]
    assert np.array_equal(again.belongs(new), task.belongs(new))
    assert np.array_equal(again.predict_set(new), task.predict_set(new))
    assert np.allclose(again.influence(), task.influence())


def test_copies_of_the_examples_belong_to_their_classes() -> None:
    """Whose distances are nothing but rounding."""
    x = clouds(2)[0].repeat_interleave(4, 0)
    task = adapter(solver=HEAD_ONLY).fit(x, ["a"] * 4 + ["b"] * 4, keep=True)
    assert task.belongs(x).tolist() == [1.0] * 8
    assert (task.belongs(x + 3) <= 1 / 9 + 1e-9).all()


def test_of_no_examples_there_is_nothing_to_say() -> None:
    task, x, _ = head_only()
    assert task.belongs(x[:0]).shape == (0,) and task.predict_set(x[:0]).shape == (0, 3)


def test_what_cannot_be_asked() -> None:
    task, x, y = head_only()
    for coverage in (0.0, 1.0, float("nan")):
        with pytest.raises(AdaptError, match="coverage="):
            task.predict_set(x, coverage=coverage)
    with pytest.raises(AdaptError, match="classes have no standard deviation"):
        task.predict(x, reject=0.1, return_std=True)  # type: ignore[call-overload]
    with pytest.raises(AdaptError, match="reject=2"):
        task.predict(x, reject=2)
    with pytest.raises(AdaptError, match="choose probability, energy, distance"):
        task.belongs(x, fit="size")  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match="keep=True"):
        adapter(solver=HEAD_ONLY).fit(x, y).belongs(x)
    with pytest.raises(AdaptError, match="a class has a single example"):
        adapter(solver=HEAD_ONLY).fit(x[:4], y[:4], keep=True).predict_set(x)
    values = adapt.load("mlp_sinusoid").fit(x[:, :1], x[:, :1].sin(), keep=True)
    with pytest.raises(AdaptError, match="a regression task has no classes"):
        values.belongs(x[:, :1])
