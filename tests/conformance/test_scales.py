"""Heads on features of any scale and shape, with any regularisation: finite, right, and never raising.

Right values are those of float64, of fits without each example, and of the same features at scale 1.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

from adapt import AdaptError
from adapt.heads import Head, KernelRidge, LabelWords, Linear, Logistic, LogisticCV, Prototype, Ridge, one_hot
from adapt.heads.base import normalise
from tests.conformance.head_tables import PLAIN_HEADS
from tests.conformance.tables import F64, randn
from tests.helpers import distance

F32 = torch.float32
EACH = pytest.mark.parametrize("name", PLAIN_HEADS)
#: Of which the closed forms and Newton's method reach the optimum whatever the regularisation is.
REGULARISED = {
    "ridge": lambda l2: Ridge(l2=l2),
    "kernel_ridge": lambda l2: KernelRidge(l2=l2),
    "logistic": lambda l2: Logistic(l2=l2),
    "label_words": lambda l2: LabelWords(l2=l2),
}
SHAPES = {
    "any": randn(9, 4),
    "wide": randn(9, 60),
    "tall": randn(24, 3),
    "each twice": randn(5, 4).repeat(2, 1)[:9],
    "collinear": randn(9, 2) @ randn(2, 6, seed=1),
    "constant": torch.ones(9, 4, dtype=F64),
    "one-hot": torch.eye(9, dtype=F64),
    "nearly alike": randn(1, 4) + 1e-3 * randn(9, 4, seed=2),
    "a row of zeros": randn(9, 4) * (torch.arange(9) != 4)[:, None],
}
BALANCED, IMBALANCED = torch.arange(24) % 3, torch.tensor([0] * 6 + [1, 1, 2] + [0] * 15)


def classes(n: int, labels: Tensor = BALANCED) -> Tensor:
    return one_hot(labels[:n], 3, F64)


def refitted(head: Head, x: Tensor, y: Tensor, examples: range) -> Tensor:
    """Outputs for each of the examples from the head fitted without it."""
    others = [torch.arange(len(x)) != i for i in examples]
    return torch.stack(
        [head.logits(head.fit(x[o], y[o]), x[i : i + 1])[0] for i, o in zip(examples, others, strict=True)]
    )


@settings(max_examples=5, deadline=None)
@given(exponent=st.floats(-20, 20), seed=st.integers(0, 1000), rows=st.booleans())
@EACH
def test_the_scale_of_features_changes_nothing(name: str, exponent: float, seed: int, rows: bool) -> None:
    """Of all, or of every row another; in float32, whose squares end at 1e38."""
    head, x, q = PLAIN_HEADS[name], randn(9, 4, seed=seed, dtype=F32), randn(1, 4, seed=seed + 1, dtype=F32)
    scale = 10.0 ** (exponent * (randn(9, 1, seed=seed).tanh() if rows else torch.ones(9, 1)))
    y, scaled = classes(9).float(), (scale * x).to(F32)
    ours, loo = head.logits(head.fit(scaled, y), q * 10.0**exponent), head.loo_logits(scaled, y)
    assert distance(ours, head.logits(head.fit(x, y), q)) <= 3e-4
    assert distance(loo, head.loo_logits(x, y)) <= 1e-3


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
@EACH
def test_derivatives_scale_with_the_features(name: str, scale: float) -> None:
    head, y, pulls = PLAIN_HEADS[name], classes(9), randn(9, 3, seed=2)

    def slope(x: Tensor) -> Tensor:
        x = x.requires_grad_(True)
        outputs = head.logits(head.fit(x, y), x) + head.loo_logits(x, y)
        return torch.autograd.grad(outputs, x, pulls)[0]

    assert distance(slope(scale * randn(9, 4)) * scale, slope(randn(9, 4))) <= 1e-6


@pytest.mark.parametrize("shape", [*SHAPES, "any, imbalanced", "wide, imbalanced", "tall, imbalanced"])
@EACH
def test_every_shape_of_features(name: str, shape: str) -> None:
    """Leaving one out is fitting without it, and float32 is float64, up to rounding."""
    kind, _, few = shape.partition(", ")
    head, x = PLAIN_HEADS[name], SHAPES[kind]
    y, examples = classes(len(x), IMBALANCED if few else BALANCED), range(0, len(x), 5)
    loo = head.loo_logits(x, y)
    assert distance(loo[examples], refitted(head, x, y, examples)) <= 1e-7
    single = x.float()
    outputs, expected = (head.logits(head.fit(f, y.to(f.dtype)), f) for f in (single, single.double()))
    assert distance(outputs.double(), expected) <= 2e-3
    assert distance(head.loo_logits(single, y.float()).double(), head.loo_logits(single.double(), y)) <= 4e-3


@pytest.mark.parametrize("l2", [1e-30, 1e-6, 1e-3, 1e3, 1e30])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", REGULARISED)
def test_every_regularisation(name: str, shape: str, l2: float) -> None:
    head, x = REGULARISED[name](l2), SHAPES[shape]
    y = classes(len(x))
    for dtype in (F32, F64):
        features, targets = x.to(dtype), y.to(dtype)
        outputs, loo = head.logits(head.fit(features, targets), features), head.loo_logits(features, targets)
        assert bool(torch.isfinite(outputs).all()) and bool(torch.isfinite(loo).all())
    if l2 >= 1e-6:
        examples = range(0, len(x), 4)
        assert distance(loo[examples], refitted(head, x, y, examples)) <= 1e-5
    if l2 <= 1e-3 and shape in ("wide", "one-hot"):  # next to no regularisation: all are learned
        assert torch.equal(outputs.argmax(1), y.argmax(1))


def test_two_hundred_examples_with_next_to_no_regularisation() -> None:
    x, y = randn(200, 5, dtype=F32), one_hot(torch.arange(200) % 3, 3)
    for head in (Logistic(l2=1e-6), LogisticCV(l2=(1e-6, 1e-3), steps=3), Logistic(l2=1e-6, dense=0)):
        loss = torch.nn.functional.cross_entropy(head.logits(head.fit(x, y), x), y)
        exact = Logistic(l2=1e-6).logits(Logistic(l2=1e-6).fit(x.double(), y.double()), x.double())
        assert abs(loss - torch.nn.functional.cross_entropy(exact, y.double())) <= 1e-4
    loo = Logistic(l2=1e-6, steps=3).loo_logits(x, y)
    exact = Logistic(l2=1e-6, steps=3).loo_logits(x.double(), y.double())
    assert distance(loo.double(), exact) <= 1e-3


def test_a_singular_system_in_large_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Approximate leave-one-out outputs where curvature is lost in rounding; formerly a LinAlgError."""
    monkeypatch.setattr("adapt.heads.leave_one_out.REFIT", 0)
    for x in (randn(40, 3).repeat(2, 1), randn(4, 60).repeat(3, 1)):
        y = one_hot(torch.arange(len(x)) % 4, 4, F64)
        for l2 in (1e-9, 1e-6):
            head = Logistic(l2=l2, dense=0)
            exact, ours = head.loo_logits(x, y), head.loo_logits(x.float(), y.float())
            assert bool(torch.isfinite(exact).all()) and bool(torch.isfinite(ours).all())
            assert distance(ours.double(), head.loo_logits(x.float().double(), y)) <= 0.02


@EACH
def test_a_bad_task_of_a_batch_does_not_touch_the_others(name: str) -> None:
    head, y = PLAIN_HEADS[name], classes(9)
    x = torch.stack([randn(9, 4), torch.full((9, 4), torch.nan, dtype=F64), randn(9, 4, seed=1)])

    def run(x: Tensor) -> Tensor:
        return torch.cat([head.logits(head.fit(x, y), x), head.loo_logits(x, y)])

    together = vmap(run)(x)
    assert not bool(torch.isfinite(together[1]).any())
    for task in (0, 2):
        assert distance(together[task], run(x[task])) <= 1e-9


@EACH
def test_features_that_teach_nothing_are_named(name: str) -> None:
    head, x, y = PLAIN_HEADS[name], randn(9, 4), classes(9)
    with pytest.raises(AdaptError, match="all features of all 9 examples are zero"):
        head.fit(0 * x, y)
    for value in (torch.nan, torch.inf):
        broken = x.clone()
        broken[3, 1] = value
        with pytest.raises(AdaptError, match="features of example 3 hold NaN or infinity"):
            head.fit(broken, y)


def test_a_row_of_zeros_has_a_finite_derivative() -> None:
    x = torch.zeros(1, 3, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(normalise(x).sum(), x)
    assert torch.equal(normalise(x), x) and bool(torch.isfinite(slope).all())


def test_a_mean_of_nothing_has_no_direction() -> None:
    """Leaving the only living example of a class out: cosine 0, not rounding over rounding."""
    x = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [3.0, -1.0, 0.5], [2.0, -1.0, 0.1]])
    y = one_hot(torch.tensor([0, 0, 1, 1]), 2)
    assert Prototype(metric="cosine").loo_logits(x, y)[0, 0] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(l2=float("inf")), "head.l2=inf is no finite number"),
        (lambda: Logistic(l2=float("nan")), "head.l2=nan is no finite number"),
        (lambda: KernelRidge(length=float("inf")), "head.length=inf is no finite number"),
        (lambda: KernelRidge(scale=0.0), "head.scale=0.0 is too small: use head.scale>0"),
        (lambda: Prototype(temperature=float("inf")), "head.temperature=inf is no finite number"),
        (lambda: Linear(l2=100.0), r"head.lr=1.0, head.l2=100.0: steps diverge"),
        (lambda: LabelWords(prior=((1.0,), (float("nan"),))), "head.prior holds NaN"),
    ],
)
def test_settings_without_a_solution_are_refused(make: object, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make()  # type: ignore[operator]
