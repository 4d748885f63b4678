"""Adapters for regression, and the rules by which fitting falls back on the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import AdapterState, initial_state
from adapt.adapter.adapting import WORSE
from adapt.heads import Direct, Logistic, Prototype, Ridge
from adapt.inner import (
    Auto,
    CrossEntropy,
    Descent,
    GaussNewton,
    Learned,
    Linearised,
    Loss,
    Model,
    Solver,
    SquaredError,
    Trace,
)
from adapt.spaces import full

X = torch.linspace(-2, 2, 24)[:, None]
RIDGE = Ridge(l2=1e-3, scale=1.0)


def network(outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, outputs))


def regressor(head: Any = None, solver: Solver | None = None, outputs: int = 1, k: int = 4) -> FewShotAdapter:
    backbone = network(outputs)
    space = full(backbone)
    basis = torch.randn(space.size, k, generator=torch.Generator().manual_seed(1)) / 4
    head = Direct() if head is None else head
    return FewShotAdapter(
        backbone,
        space,
        initial_state(space.initial.clone(), basis),
        solver or GaussNewton(steps=5),
        head,
        head,
        SquaredError(),
        input_shape=(1,),
    )


def curve(adapter: FewShotAdapter) -> Tensor:
    """What the network gives at a known z: a task that can be solved, ``[24, outputs]``."""
    z = torch.tensor([0.8, -0.6, 0.4, 0.3])
    parameters = adapter.space.parameters(adapter.state.origin + adapter.state.basis @ z)
    with torch.no_grad():
        return torch.func.functional_call(adapter.backbone, parameters, (X,))


@pytest.mark.parametrize("solver", [GaussNewton(8), Linearised(), Auto(), Descent("adam", 0.05, 60)], ids=str)
@pytest.mark.parametrize("head", [Direct(), RIDGE], ids=["direct", "ridge"])
def test_fit_predict_and_score(head: Any, solver: Solver) -> None:
    from sklearn.metrics import r2_score

    adapter = regressor(head, solver, outputs=1 if isinstance(head, Direct) else 6)
    y = curve(adapter)[:, :1]
    task = adapter.fit(X[::2], y[::2])
    predicted = task.predict(X[1::2])
    assert predicted.shape == (12, 1) and predicted.dtype == np.float32
    assert task.classes_.shape == (0,)
    score = task.score(X[1::2], y[1::2])
    assert score == pytest.approx(r2_score(y[1::2].numpy(), predicted), abs=1e-5)
    start = adapter.replace(solver=GaussNewton(0)).fit(X[::2], y[::2]).score(X[1::2], y[1::2])
    assert score >= start - 1e-4
    if not isinstance(solver, Linearised):
        assert score > 0.9
    with pytest.raises(AdaptError, match="a regression task has no classes: use predict"):
        task.predict_proba(X)


def test_score_of_several_outputs_weighs_them_by_variance() -> None:
    from sklearn.metrics import r2_score

    adapter = regressor(outputs=2)
    y = curve(adapter)
    task = adapter.fit(X[:6], y[:6])
    expected = r2_score(y.numpy(), task.predict(X), multioutput="variance_weighted")
    assert task.score(X, y) == pytest.approx(expected, abs=1e-5)
    assert task.score(X, torch.ones(24, 2)) == 0  # nothing varies


@pytest.mark.parametrize(
    "kind",
    [
        lambda y: y,
        lambda y: y[:, 0],
        lambda y: y[:, 0].tolist(),
        lambda y: tuple(y.tolist()),
        lambda y: y.numpy(),
        lambda y: y.numpy()[:, 0].astype(">f8"),
        lambda y: y.double().requires_grad_(True),
        lambda y: np.ascontiguousarray(y.numpy()[::-1])[::-1],
        lambda y: np.frombuffer(y.numpy().tobytes(), np.float32),
    ],
    ids=["rows", "column", "list", "tuple of lists", "array", "foreign", "graph", "backwards", "read-only"],
)
def test_values_may_come_in_any_form(kind: Callable[[Tensor], Any]) -> None:
    adapter = regressor()
    y = curve(adapter)
    task, expected = adapter.fit(X, kind(y)), adapter.fit(X, y)
    assert torch.equal(task.z, expected.z)
    assert task.score(X, kind(y)) == expected.score(X, y)


def test_whole_numbers_and_truth_values_are_values() -> None:
    adapter = regressor(RIDGE)
    whole = adapter.fit(X[:4], [0, 1, 1, 0])
    assert torch.equal(whole.z, adapter.fit(X[:4], [False, True, True, False]).z)
    assert torch.equal(whole.z, adapter.fit(X[:4], np.array([0.0, 1.0, 1.0, 0.0])).z)


FAULTY: dict[str, tuple[Any, str]] = {
    "too few": ([1.0, 2.0], r"y has shape \(2,\) but x has 4 examples: pass one number, or one row"),
    "cube": (np.zeros((4, 1, 1)), r"y has shape \(4, 1, 1\)"),
    "no columns": (np.zeros((4, 0)), r"y has shape \(4, 0\)"),
    "number": (3.0, r"y has shape \(\)"),
    "NaN": (
        [1.0, 2.0, float("nan"), 0.0],
        r"y holds NaN or infinity, at y\[2\]: every example needs a value",
    ),
    "overflow": ([1.0, 2.0, 1e300, 0.0], r"y holds NaN or infinity"),
    "strings": (["a", "b", "c", "d"], r"y must hold real numbers, this adapter does regression: got <U1"),
    "mixture": (["a", 1, 2, 3], r"y must hold real numbers"),
    "None": (None, r"y must hold real numbers, .* got object"),
    "one None": ([None, 1.0, 2.0, 3.0], r"y must hold real numbers, .* got object"),
    "complex": ([1j, 2j, 3j, 4j], r"y must hold real numbers, .* got complex128"),
    "ragged": ([[1.0], [1.0, 2.0], [1.0], [1.0]], r"y is a ragged nest of lists"),
}


@pytest.mark.parametrize(("y", "message"), FAULTY.values(), ids=FAULTY.keys())
def test_faulty_values_are_named(y: Any, message: str) -> None:
    adapter = regressor(RIDGE)
    task = adapter.fit(X[:4], X[:4, 0])
    for use in (adapter.fit, task.score):
        with pytest.raises(AdaptError, match=message):
            use(X[:4], y)


def test_score_wants_as_many_columns_as_were_fitted() -> None:
    task = regressor(RIDGE).fit(X[:4], X[:4])
    with pytest.raises(AdaptError, match=r"y has shape \(4, 2\)"):
        task.score(X[:4], torch.zeros(4, 2))


def test_heads_that_classify_are_refused() -> None:
    for head in (Logistic(), Prototype()):
        for changes in ({"head": head}, {"support_head": head}):
            with pytest.raises(
                AdaptError, match=r"head=\w+ classifies, but .* use heads\.Direct .* heads\.Ridge"
            ):
                regressor(RIDGE).replace(**changes)


@pytest.mark.parametrize("head", [Direct(), RIDGE], ids=["direct", "ridge"])
def test_a_single_example_can_be_fitted(head: Any) -> None:
    task = regressor(head).fit(X[:1], [1.5])
    assert bool(torch.isfinite(task.z).all()) and np.isfinite(task.predict(X)).all()
    if isinstance(head, Direct):
        start = regressor(head, GaussNewton(0)).fit(X[:1], [1.5])
        assert abs(task.predict(X[:1]).item() - 1.5) < abs(start.predict(X[:1]).item() - 1.5)


# ------------------------------------------------------------------------------------------ falling back


@dataclass(frozen=True)
class Lost:
    """A solver that goes where it is told, and says what the loss was at the start."""

    z: float

    def __call__(self, model: Model, targets: Tensor, loss: Loss, learned: Learned) -> tuple[Tensor, Trace]:
        zero = torch.zeros_like(learned.precision)
        return zero + self.z, Trace(loss.value(model(zero), targets)[None], 7.0, "went astray")


@pytest.mark.parametrize("z", [20.0, 1e30, float("inf"), float("nan")])
def test_a_solver_that_makes_it_worse_is_not_followed(z: float) -> None:
    adapter = regressor()
    y = curve(adapter)
    lost, start = adapter.replace(solver=Lost(z)).fit(X, y), adapter.replace(solver=GaussNewton(0)).fit(X, y)
    assert not lost.z.any()
    assert (lost.trace.choice, lost.trace.forward_equivalents) == (WORSE, 7.0)
    assert np.array_equal(lost.predict(X), start.predict(X))
    assert all(torch.equal(lost.parameters[name], start.parameters[name]) for name in start.parameters)
    kept = adapter.replace(solver=Lost(0.0)).fit(X, y)
    assert kept.trace.choice == "went astray"


def test_a_step_too_far_is_taken_back() -> None:
    """An undamped Descent with an absurd rate; the same rule for classes."""
    adapter = regressor(solver=Descent("sgd", 1e3, 3))
    task = adapter.fit(X, curve(adapter))
    assert not task.z.any() and task.trace.choice == WORSE


@dataclass(frozen=True)
class Case:
    seed: int
    n: int
    k: int
    width: float
    labels: list[int] = field(default_factory=list)


class Straight(nn.Module):
    """Features that are linear in the parameters."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift * x.flip(-1)


def cases() -> st.SearchStrategy[Case]:
    return st.integers(4, 12).flatmap(
        lambda n: st.builds(
            Case,
            seed=st.integers(0, 2**31),
            n=st.just(n),
            k=st.integers(0, 4),
            width=st.sampled_from([1e-3, 0.3, 3.0, 1e3]),
            labels=st.lists(st.integers(0, 2), min_size=n, max_size=n).filter(lambda y: len(set(y)) > 1),
        )
    )


@settings(max_examples=40, deadline=None)
@given(
    case=cases(),
    solver=st.sampled_from(
        [GaussNewton(1), GaussNewton(3), Linearised(), Auto((1, 2, 4)), Descent("sgd", 1.0)]
    ),
)
def test_adapting_never_ends_with_a_greater_support_loss(case: Case, solver: Solver) -> None:
    generator = torch.Generator().manual_seed(case.seed)
    x = torch.randn(case.n, 5, generator=generator)
    backbone = Straight(5)
    space = full(backbone)
    basis = case.width * torch.randn(5, case.k, generator=generator)
    state: AdapterState = initial_state(space.initial.clone(), basis)
    adapter = FewShotAdapter(backbone, space, state, solver)
    task = adapter.fit(x, case.labels)
    assert bool(torch.isfinite(task.z).all()) and np.isfinite(task.predict_proba(x)).all()
    if min(case.labels.count(c) for c in set(case.labels)) < 2:
        assert not task.z.any()
        return
    targets = torch.eye(3)[torch.tensor(case.labels)]
    targets = targets[:, targets.any(0)]

    def support_loss(z: Tensor) -> Tensor:
        with torch.no_grad():
            there = torch.func.functional_call(backbone, space.parameters(space.initial + basis @ z), (x,))
            return CrossEntropy().value(Prototype().loo_logits(there, targets), targets)

    start = support_loss(torch.zeros(case.k))
    assert support_loss(task.z) <= start * (1 + 1e-5) + 1e-6
