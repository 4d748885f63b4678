"""What regression asks of heads, at every entry; R²."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adapt import AdaptError
from adapt.adapter import Context, FewShotAdapter, Forward, Method, Support, initial_state
from adapt.adapter.r_squared import r_squared
from adapt.baselines import Backprop, Finetune, HeadOnly, Higher, PeftLora
from adapt.heads import Direct, Head, KernelRidge, LabelWords, Linear, Logistic, LogisticCV, Prototype, Ridge
from adapt.inner import CrossEntropy, Descent, GaussNewton, Loss, SquaredError
from adapt.spaces import bias

X = torch.linspace(-1, 1, 8)[:, None]
Y = 3 * X


def context(outputs: int = 5, loss: Loss | None = None) -> Context:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, outputs)).requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    space = bias(net)
    state = initial_state(space.initial.clone(), torch.eye(space.size, 2))
    direct = Direct()
    return Context(
        net, FewShotAdapter(net, space, state, GaussNewton(), direct, direct, loss or SquaredError())
    )


ENTRIES: dict[str, Callable[[Any], Any]] = {
    "head": HeadOnly,
    "forward": lambda head: Forward(head=head),
    "backprop": lambda head: Backprop(Descent(steps=1), head=head),
    "higher": lambda head: Higher("sgd", 0.1, 1, head=head),
    "adapter": lambda head: _Adapter(head, "head"),
    "support head": lambda head: _Adapter(head, "support_head"),
}


class _Adapter:
    """An adapter with a head, as what methods are."""

    def __init__(self, head: Head, role: str) -> None:
        self.change = {role: head}

    def prepare(self, context: Context) -> Any:
        adapter = context.adapter.replace(**self.change)
        return lambda support, watch: adapter.fit(support.x, support.y).logits


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("head", [Ridge(), Ridge(scale=0.5), KernelRidge(), KernelRidge(scale=2.0)], ids=str)
def test_a_factor_on_predictions_is_refused_at_every_entry(entry: str, head: Ridge | KernelRidge) -> None:
    role = "support_head" if entry == "support head" else "head"
    with pytest.raises(AdaptError, match=rf"^{role}.scale={head.scale} turns outputs into logits.*scale=1$"):
        ENTRIES[entry](head).prepare(context())(Support(X, Y, ()), lambda _: None)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    "head",
    [Prototype(), Logistic(), LogisticCV(), Linear(), LabelWords()],
    ids=lambda head: type(head).__name__,
)
def test_a_head_that_classifies_is_refused_at_every_entry(entry: str, head: Head) -> None:
    with pytest.raises(AdaptError, match=rf"head={type(head).__name__} classifies, but this task is"):
        ENTRIES[entry](head).prepare(context())(Support(X, Y, ()), lambda _: None)


@pytest.mark.parametrize("head", [Ridge(1e-4, scale=1.0), KernelRidge(l2=1e-4, scale=1.0)], ids=str)
@pytest.mark.parametrize("entry", ["head", "forward", "backprop"])
def test_predictions_are_of_the_size_of_the_targets(entry: str, head: Head) -> None:
    given = context()
    given = given._replace(adapter=given.adapter.replace(support_head=head))
    predictor = ENTRIES[entry](head).prepare(given)(Support(X, Y, ()), lambda _: None)
    with torch.no_grad():
        assert (predictor(X) - Y).abs().max() <= 0.3


@pytest.mark.parametrize(
    "method", [HeadOnly(Direct()), Forward(head=Direct()), Finetune(steps=1), PeftLora(epochs=1)], ids=str
)
def test_as_many_outputs_as_targets(method: Method) -> None:
    """Also where a column would broadcast, and where the support head has none of it."""
    given = context(5)
    given = given._replace(adapter=given.adapter.replace(support_head=Ridge(scale=1.0)))
    with pytest.raises(AdaptError, match=r"network's outputs \(8, 5\) for the targets \(8, 1\)"):
        method.prepare(given)(Support(X, Y, ()), lambda _: None)


@pytest.mark.parametrize("outputs", [1, 5])
def test_as_many_outputs_as_classes(outputs: int) -> None:
    adapter = context(outputs, CrossEntropy()).adapter
    with pytest.raises(AdaptError, match=rf"network's outputs \(8, {outputs}\) for the targets \(8, 2\)"):
        adapter.fit(X, torch.arange(8) % 2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    columns=st.integers(1, 3),
    exponent=st.integers(-30, 30),
    shift=st.sampled_from([0.0, 1.0]),
)
def test_r_squared_is_scikit_learns(seed: int, columns: int, exponent: int, shift: float) -> None:
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(seed)
    y = rng.standard_normal((7, columns)) + shift
    found = y + rng.standard_normal(y.shape)
    # With one variance for all outputs, as ours sums over them.
    expected = r2_score(y.reshape(-1, 1) - np.tile(y.mean(0), 7)[:, None], (found - y.mean(0)).reshape(-1, 1))
    assert r_squared(y * 10.0**exponent, found * 10.0**exponent) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e30, 1e-30])
@pytest.mark.parametrize("n", [1, 3, 7, 11])
def test_r_squared_of_a_constant(n: int, value: float, dtype: type) -> None:
    """The mean of equal numbers may differ from them by rounding."""
    y = np.full((n, 1), value, dtype)
    assert r_squared(y, y) == 1
    assert r_squared(y, np.nextafter(y, np.inf, dtype=dtype)) == (1 if value else 0)
    assert r_squared(y, y + dtype(max(abs(value), 1)) * dtype(0.01)) == 0


def test_a_task_scores_a_constant() -> None:
    task = context(1).adapter.fit(X, 0 * X + 2)
    assert task.score(X, task.predict(X)) == pytest.approx(1)
    assert task.score(X[:1], task.predict(X[:1])) == 1
    assert task.score(X[:1], task.predict(X[:1]) + 1) == 0
