"""Heads beyond their contract: invariances on drawn problems, scikit-learn, and settings that are refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapt import AdaptError
from adapt.heads import Direct, Head, Logistic, Prototype, Ridge, one_hot
from adapt.heads.base import normalise, with_constant
from tests.helpers import distance

HEADS: list[Head] = [Prototype(), Ridge(), Logistic()]


def draw_problem(seed: int, n: int, d: int, c: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, q = (torch.randn(m, d, generator=generator, dtype=torch.float64) for m in (n, 4))
    return x, one_hot(torch.arange(n) % c, c, torch.float64), q


problems = st.builds(
    draw_problem,
    seed=st.integers(0, 2**31),
    n=st.integers(4, 9),
    d=st.integers(1, 8),
    c=st.integers(2, 4),
)


@settings(max_examples=25, deadline=None)
@given(problem=problems, scale=st.floats(1, 100), head=st.sampled_from(HEADS))
def test_outputs_do_not_depend_on_the_scale_of_features(
    problem: tuple[Tensor, Tensor, Tensor], scale: float, head: Head
) -> None:
    x, y, q = problem
    # Heads add 1e-12 to squared lengths, so that a zero row has a gradient: keep lengths far above 1e-6.
    q = q / q.norm(dim=1, keepdim=True)
    x = x / x.norm(dim=1, keepdim=True)
    expected = head.logits(head.fit(x, y), q)
    assert distance(head.logits(head.fit(scale * x, y), q * scale), expected) <= 1e-6
    assert distance(head.loo_logits(scale * x, y), head.loo_logits(x, y)) <= 1e-6


@settings(max_examples=25, deadline=None)
@given(problem=problems, head=st.sampled_from(HEADS))
def test_outputs_do_not_depend_on_a_rotation_of_features(
    problem: tuple[Tensor, Tensor, Tensor], head: Head
) -> None:
    x, y, q = problem
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=generator, dtype=x.dtype))[0]
    expected = head.logits(head.fit(x, y), q)
    assert distance(head.logits(head.fit(x @ rotation, y), q @ rotation), expected) <= 1e-6


@settings(max_examples=25, deadline=None)
@given(problem=problems, head=st.sampled_from(HEADS), data=st.data())
def test_outputs_follow_permutations(
    problem: tuple[Tensor, Tensor, Tensor], head: Head, data: st.DataObject
) -> None:
    x, y, q = problem
    order = data.draw(st.permutations(range(len(x))))
    columns = data.draw(st.permutations(range(y.shape[1])))
    expected = head.logits(head.fit(x, y), q)[:, columns]
    assert distance(head.logits(head.fit(x[order], y[order][:, columns]), q), expected) <= 1e-6


@settings(max_examples=25, deadline=None)
@given(problem=problems, factor=st.integers(2, 3))
def test_an_example_given_twice_counts_twice(problem: tuple[Tensor, Tensor, Tensor], factor: int) -> None:
    """Repeating the whole support leaves prototypes alone, and equals a weaker ridge in the other heads."""
    x, y, q = problem
    many, targets = x.repeat(factor, 1), y.repeat(factor, 1)
    pairs: list[tuple[Head, Head]] = [
        (Prototype(), Prototype()),
        (Ridge(l2=0.3 * factor), Ridge(l2=0.3)),
        (Logistic(l2=0.3 * factor, steps=15), Logistic(l2=0.3, steps=15)),
    ]
    for strong, weak in pairs:
        repeated = strong.logits(strong.fit(many, targets), q)
        assert distance(repeated, weak.logits(weak.fit(x, y), q)) <= 1e-6


@pytest.mark.parametrize("shape", [(12, 30), (40, 5)], ids=["n < D", "n > D"])
def test_logistic_is_scikit_learns(shape: tuple[int, int]) -> None:
    """C = 1/(λ D); the intercept is a penalised weight of a constant feature √D."""
    from sklearn.linear_model import LogisticRegression

    n, d = shape
    x, y, q = draw_problem(0, n, d, 3)
    head = Logistic(l2=0.05)
    theirs = LogisticRegression(C=1 / (head.l2 * d), fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(with_constant(normalise(x)).numpy(), y.argmax(1).numpy())
    expected = theirs.predict_proba(with_constant(normalise(q)).numpy())
    ours = head.logits(head.fit(x, y), q).softmax(-1)
    assert np.abs(ours.numpy() - expected).max() <= 1e-5


@pytest.mark.parametrize("shape", [(6, 20), (40, 4)], ids=["n < D", "n > D"])
def test_default_steps_reach_single_precision(shape: tuple[int, int]) -> None:
    x, y, _ = draw_problem(1, *shape, 3)
    head = Logistic()
    features = with_constant(normalise(x))
    w = head.fit(x, y)
    gradient = features.T @ ((features @ w).softmax(-1) - y) + head.l2 * shape[1] * w
    assert gradient.abs().max() <= 1e-6 * shape[1]


@pytest.mark.parametrize("l2", [1e-8, 1e-4, 1.0, 100.0])
def test_more_newton_steps_never_do_worse(l2: float) -> None:
    """Also with next to no regularisation, where separable classes push the optimum far out."""
    x, y, _ = draw_problem(2, 8, 3, 2)
    features = with_constant(normalise(x))

    def objective(steps: int) -> float:
        w = Logistic(l2=l2, steps=steps).fit(x, y)
        z = features @ w
        return float((z.logsumexp(-1) - (y * z).sum(-1)).sum() + 0.5 * l2 * 3 * w.square().sum())

    values = [objective(steps) for steps in (1, 2, 4, 8, 16)]
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(values))


def test_a_class_without_examples_gets_the_zero_prototype() -> None:
    state = Prototype().fit(torch.eye(2), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert torch.equal(state[2], torch.zeros(2))


def test_temperature_sharpens_and_decides_nothing() -> None:
    x, y, q = draw_problem(3, 6, 4, 3)
    mild, sharp = (head.logits(head.fit(x, y), q) for head in (Prototype(1.0), Prototype(0.1)))
    assert distance(sharp, 10 * mild) <= 1e-12


def test_ridge_regresses() -> None:
    """A linear target is found, up to the little regularisation, from normalised features."""
    x, _, q = draw_problem(4, 30, 4, 2)
    weights = torch.tensor([[1.0], [-2.0], [0.5], [0.0]], dtype=torch.float64)
    head = Ridge(l2=1e-8, scale=1.0)
    predicted = head.logits(head.fit(x, normalise(x) @ weights + 3), q)
    assert distance(predicted, normalise(q) @ weights + 3) <= 1e-5


def test_direct_hands_out_what_it_is_given() -> None:
    x, y, q = draw_problem(5, 6, 3, 3)
    head = Direct()
    assert head.fit(x, y, torch.zeros(6)).shape == (0,)
    assert head.logits(head.fit(x, y), q) is q and head.loo_logits(x, y) is x


@settings(max_examples=25, deadline=None)
@given(problem=problems, head=st.sampled_from(HEADS), data=st.data())
def test_examples_of_weight_zero_are_not_there(
    problem: tuple[Tensor, Tensor, Tensor], head: Head, data: st.DataObject
) -> None:
    x, y, q = problem
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x))))
    if kept.sum() == 0:
        kept[0] = True
    ours = head.logits(head.fit(x, y, kept.to(x.dtype)), q)
    assert distance(ours, head.logits(head.fit(x[kept], y[kept]), q)) <= 1e-6
    loo = head.loo_logits(x, y, kept.to(x.dtype))[kept]
    assert distance(loo, head.loo_logits(x[kept], y[kept])) <= 1e-6


def test_one_hot() -> None:
    rows = one_hot(torch.tensor([2, 0]), 3, torch.float64)
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert rows.dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prototype(temperature=0), "head.temperature=0: .*positive"),
        (lambda: Prototype(temperature=float("nan")), "head.temperature=nan"),
        (lambda: Ridge(l2=-1), "head.l2=-1: .*positive"),
        (lambda: Logistic(l2=0), "head.l2=0: .*positive"),
        (lambda: Logistic(steps=0), "head.steps=0: at least one"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make()


@pytest.mark.parametrize("head", [Ridge(0.05), Logistic(0.05), Logistic(0.05, dense=0)], ids=str)
@pytest.mark.parametrize("n", [12, 60], ids=["few", "many"])
def test_an_example_of_weight_three_is_three_examples(head: Head, n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 8, generator=generator, dtype=torch.float64)
    y = one_hot(torch.arange(n) % 3, 3, torch.float64)
    counts = torch.randint(0, 4, (n,), generator=generator)
    repeated = head.fit(x.repeat_interleave(counts, 0), y.repeat_interleave(counts, 0))
    assert torch.allclose(head.fit(x, y, counts.double()), repeated, atol=1e-6)
    half = head.fit(x, y, torch.full((n,), 0.5, dtype=torch.float64))
    assert torch.allclose(half, replace(head, l2=0.1).fit(x, y), atol=1e-6)  # type: ignore[type-var]


def test_left_out_of_weighted_ridge_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (12, 60):
        x, y = (torch.randn(n, size, generator=generator, dtype=torch.float64) for size in (8, 2))
        weights = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
        found = Ridge(0.05).loo_logits(x, y, weights)
        for row in (0, n - 1):
            rest = torch.arange(n) != row
            state = Ridge(0.05).fit(x[rest], y[rest], weights[rest])
            assert torch.allclose(found[row], Ridge(0.05).logits(state, x[row : row + 1])[0])
