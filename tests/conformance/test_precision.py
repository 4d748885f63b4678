"""Every head with every solver on a backbone of low precision, or under autocast: the same as in float64.

The reference is a float64 network of the same (rounded) weights: what is left is the rounding of activations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

import adapt
from adapt.adapter import Context, FewShotAdapter, Forward, Method, Support, initial_state
from adapt.baselines import Backprop, Finetune, HeadOnly, Higher, Learn2Learn, PeftLora, Retrain, Tsa
from adapt.forward import pushforward
from adapt.forward.estimators import Exact
from adapt.heads import Direct, Head, KernelRidge, Logistic, Prototype, Ridge, is_transductive
from adapt.inner import (
    Auto,
    CrossEntropy,
    Descent,
    GaussNewton,
    Linearised,
    Loss,
    Solver,
    SquaredError,
    plain,
)
from adapt.spaces import Space, bias, film, full, ia3, lora, residual
from tests.conformance.head_tables import PLAIN_HEADS
from tests.conformance.tables import F64, randn, rows
from tests.helpers import distance

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


class Mode(NamedTuple):
    """The dtype of the network's weights, the autocast it runs under, and what its rounding does to the
    probabilities of a task (a dozen roundings of activations, sharpened by the head)."""

    weights: torch.dtype
    autocast: torch.dtype | None
    tolerance: float

    def around(self) -> AbstractContextManager[object]:
        return nullcontext() if self.autocast is None else torch.autocast("cpu", self.autocast)


MODES = {
    "bfloat16": Mode(BF16, None, 0.1),
    "float16": Mode(F16, None, 0.015),
    "autocast": Mode(F32, BF16, 0.1),
    "bfloat16 under autocast": Mode(BF16, BF16, 0.1),
}
ONE_AT_A_TIME = {name: MODES[name] for name in ("bfloat16", "float16", "autocast")}
VALUES: dict[str, Head] = {
    "direct": Direct(),
    "ridge": Ridge(scale=1.0),
    "kernel_ridge": KernelRidge(scale=1.0),
}
SOLVERS: dict[str, Solver] = {
    "gauss_newton": GaussNewton(2),
    "gauss_newton, reference": GaussNewton(engine="reference"),
    "linearised": Linearised(3),
    "auto": Auto((2, 4)),
    "descent, reverse": Descent(steps=2),
    "descent, forward": Descent(steps=2, gradient=Exact()),
}
#: One of a kind; the others differ in how tangents are computed.
QUICK = ("gauss_newton", "linearised", "auto", "descent, forward")
SPACES: dict[str, Callable[[nn.Module], Space]] = {
    "film": film,
    "bias": bias,
    "full": full,
    "lora": lora,
    "ia3": ia3,
    "residual": residual,
}
CENTRES = 1.5 * randn(3, 6, seed=11)
LABELS = torch.arange(9) % 3
X, Q = CENTRES[LABELS] + 0.3 * randn(9, 6, seed=12), CENTRES[LABELS[:6]] + 0.3 * randn(6, 6, seed=13)


def values(x: Tensor, outputs: int = 1) -> Tensor:
    return (x[:, :1] - x[:, 1:2]).tanh().expand(-1, outputs)


def network(mode: Mode, outputs: int = 8) -> tuple[nn.Module, nn.Module]:
    """A network of the mode, and one in float64 of the same weights."""
    net = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, outputs))
    for number, parameter in enumerate(net.parameters()):
        drawn = randn(*parameter.shape, seed=number, dtype=F32)
        parameter.data = drawn / parameter.shape[-1] ** 0.5 if drawn.ndim > 1 else 0.3 * drawn
    net[1].weight.data += 1
    ours = net.eval().requires_grad_(False).to(mode.weights)
    return ours, copy.deepcopy(ours).double()


def adapter_of(
    net: nn.Module,
    head: Head,
    solver: Solver,
    loss: Loss,
    *,
    support_head: Head | None = None,
    space: Callable[[nn.Module], Space] = film,
) -> FewShotAdapter:
    moving = space(net)
    basis = 0.1 * randn(moving.size, 4, seed=21, dtype=moving.initial.dtype)
    state = initial_state(moving.initial.clone(), basis)
    quick = Ridge(scale=1.0) if loss.regression else Prototype()
    return FewShotAdapter(net, moving, state, solver, head, support_head or quick, loss)


@cache
def reference(head: str, solver: str, weights: torch.dtype) -> tuple[np.ndarray, Tensor]:
    """Probabilities and z in float64."""
    mode = Mode(weights, None, 0)
    task = adapter_of(network(mode)[1], PLAIN_HEADS[head], SOLVERS[solver], CrossEntropy()).fit(X, LABELS)
    return task.predict_proba(Q), task.z


@rows(ONE_AT_A_TIME)
@pytest.mark.parametrize("solver", QUICK)
@pytest.mark.parametrize("head", PLAIN_HEADS)
def test_classes_are_those_of_float64(head: str, solver: str, row: Mode) -> None:
    adapter = adapter_of(network(row)[0], PLAIN_HEADS[head], SOLVERS[solver], CrossEntropy())
    assert adapter.state.origin.dtype == F32
    with row.around():
        task = adapter.fit(X.float(), LABELS)
        probabilities = task.predict_proba(Q.float())
        assert task.score(Q.float(), LABELS[:6]) == 1
    expected, z = reference(head, solver, row.weights)
    assert task.z.dtype == F32 and probabilities.dtype == np.float32
    assert np.abs(probabilities - expected).max() <= row.tolerance
    assert distance(task.z.double(), z) <= row.tolerance
    assert (probabilities.argmax(1) == expected.argmax(1)).all()


@rows(ONE_AT_A_TIME)
@pytest.mark.parametrize("solver", QUICK)
@pytest.mark.parametrize("head", VALUES)
def test_values_are_those_of_float64(head: str, solver: str, row: Mode) -> None:
    nets = network(row, 1 if head == "direct" else 8)
    ours, theirs = (
        adapter_of(net, VALUES[head], SOLVERS[solver], SquaredError(), support_head=VALUES[head])
        for net in nets
    )
    with row.around():
        task = ours.fit(X.float(), values(X))
        predicted, score = task.predict(Q.float()), task.score(Q.float(), values(Q))
    expected = theirs.fit(X, values(X))
    assert predicted.dtype == np.float32 and task.z.dtype == F32
    assert np.abs(predicted - expected.predict(Q)).max() <= row.tolerance
    assert score == pytest.approx(expected.score(Q, values(Q)), abs=2 * row.tolerance)


@rows({name: MODES[name] for name in ("bfloat16", "autocast")})
@pytest.mark.parametrize("head", [name for name, head in PLAIN_HEADS.items() if not is_transductive(head)])
def test_every_head_in_the_support_loss(head: str, row: Mode) -> None:
    """Its leave-one-out outputs, and their tangents."""
    ours, theirs = (
        adapter_of(net, PLAIN_HEADS[head], GaussNewton(), CrossEntropy(), support_head=PLAIN_HEADS[head])
        for net in network(row)
    )
    with row.around():
        task = ours.fit(X.float(), LABELS)
    expected = theirs.fit(X, LABELS)
    assert distance(task.trace.losses.double(), expected.trace.losses) <= 5 * row.tolerance
    assert distance(task.z.double(), expected.z) <= 2 * row.tolerance


@rows(MODES)
@pytest.mark.parametrize("space", SPACES)
def test_every_space(space: str, row: Mode) -> None:
    """φ and U are float32, and what the network is given has its own dtype."""
    ours, theirs = (
        adapter_of(net, Ridge(), GaussNewton(), CrossEntropy(), space=SPACES[space]) for net in network(row)
    )
    with row.around():
        task = ours.fit(X.float(), LABELS)
        probabilities = task.predict_proba(Q.float())
    assert ours.space.initial.dtype == F32
    assert {value.dtype for value in ours.backbone.parameters()} == {row.weights}
    assert np.abs(probabilities - theirs.fit(X, LABELS).predict_proba(Q)).max() <= row.tolerance


def test_float64_stays_float64() -> None:
    net = network(Mode(F64, None, 0))[0]
    for head in PLAIN_HEADS.values():
        task = adapter_of(net, head, GaussNewton(), CrossEntropy()).fit(X, LABELS)
        assert task.z.dtype == task.logits(Q).dtype == task.head_state.dtype == F64


@rows(MODES)
def test_a_task_is_saved_and_loaded(row: Mode, tmp_path: Path) -> None:
    net = network(row)[0]
    with row.around():
        task = adapter_of(net, KernelRidge(), GaussNewton(), CrossEntropy()).fit(X.float(), LABELS)
        task.save_pretrained(tmp_path)
        again = adapt.load(tmp_path, net)
        assert np.array_equal(again.predict_proba(Q.float()), task.predict_proba(Q.float()))


@rows(MODES)
def test_a_state_of_low_precision_is_widened(row: Mode) -> None:
    """As one saved with a bfloat16 backbone by earlier versions."""
    adapter = adapter_of(network(row)[0], Ridge(), GaussNewton(), CrossEntropy())
    low = adapter.state._replace(basis=adapter.state.basis.bfloat16())
    with row.around():
        assert adapter.replace(state=low).fit(X.float(), LABELS).z.dtype == F32


METHODS: dict[str, Method] = {
    "forward": Forward(),
    "head": HeadOnly(KernelRidge()),
    "backprop": Backprop(Descent(steps=2)),
    "backprop, checkpointed": Backprop(Descent(steps=2), checkpoint=True),
    "finetune": Finetune(steps=2),
    "tsa": Tsa(Descent(steps=2)),
    "learn2learn": Learn2Learn(lr=0.1, steps=2),
    "higher": Higher("sgd", lr=0.1, steps=2),
    "peft_lora": PeftLora(rank=2, epochs=1),
    "retrain": Retrain(epochs=1, batch=5),
}


@rows(MODES)
@pytest.mark.parametrize("method", METHODS)
def test_every_baseline(method: str, row: Mode) -> None:
    def outputs(net: nn.Module, x: Tensor, q: Tensor) -> Tensor:
        adapter = adapter_of(net, Logistic(), GaussNewton(), CrossEntropy())
        context = Context(net, adapter, lambda classes, reserved=(): (x, LABELS))
        predictor = METHODS[method].prepare(context)(Support(x, LABELS, ("a", "b", "c")), lambda _: None)
        with torch.no_grad():
            return predictor(q)

    ours, theirs = network(row)
    with row.around():
        found = outputs(ours, X.float(), Q.float())
    expected = outputs(theirs, X, Q)
    if method != "retrain":  # which starts from random weights, of another dtype
        assert distance(found.softmax(-1).double(), expected.softmax(-1)) <= 2 * row.tolerance
    assert found.dtype == F32 or (row.autocast is not None and method == "retrain")
    assert {value.dtype for value in ours.parameters()} == {row.weights}


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize("name", [*PLAIN_HEADS, "direct"])
def test_a_head_widens_what_it_is_given(name: str, dtype: torch.dtype) -> None:
    """Also by itself: features, targets and weights of low precision, inside autocast, inside vmap."""
    head = PLAIN_HEADS.get(name, Direct())
    x = randn(2, 9, 3, seed=3, dtype=dtype)
    y, weights = torch.eye(3, dtype=dtype)[LABELS], torch.ones(9, dtype=dtype)

    def run(x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        state = head.fit(x, y, weights)
        return head.logits(state, x), head.loo_logits(x, y, weights)

    with torch.autocast("cpu", BF16):
        found = vmap(run, (0, None, None))(x, y, weights)
        alone = run(x[1], y, weights)
    expected = run(x[1].double(), y.double(), weights.double())
    for ours, own, theirs in zip(found, alone, expected, strict=True):
        assert ours.dtype == own.dtype == F32
        assert max(distance(ours[1].double(), theirs), distance(own.double(), theirs)) <= 2e-4


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()], ids=["values", "classes"])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_widens_what_it_is_given(name: str, loss: Loss) -> None:
    """By itself, on a function of low precision: z and steps are float32, the function gets its own dtype."""
    a, y = randn(9, 3, 4, seed=4, dtype=BF16), torch.eye(3, dtype=BF16)[LABELS]
    solver, seen = SOLVERS[name], set()

    def function(z: Tensor) -> Tensor:
        seen.add(z.dtype)
        return a @ z

    with torch.no_grad():
        z, trace = solver(function, y, loss, plain(torch.ones(4, dtype=BF16)))
        expected, _ = solver(lambda z: a.double() @ z, y.double(), loss, plain(torch.ones(4, dtype=F64)))
        with torch.autocast("cpu", BF16):
            under, _ = solver(lambda z: a.float() @ z, y.float(), loss, plain(torch.ones(4)))
    assert seen == {BF16} and z.dtype == trace.losses.dtype == under.dtype == F32
    assert max(distance(z.double(), expected), distance(under.double(), expected)) <= 0.03


@rows(MODES)
def test_features_and_tangents_leave_the_network_wide(row: Mode) -> None:
    from adapt.adapter.problem import features_of

    adapter = adapter_of(network(row)[0], Ridge(), GaussNewton(), CrossEntropy())
    with row.around():
        features = features_of(adapter.backbone, adapter.space, adapter.state, X.float())
    zero, identity = torch.zeros(4), torch.eye(4)
    for engine in ("fast", "reference"):
        value, columns = pushforward(features, zero, identity, engine=engine)
        assert value.dtype == columns.dtype == F32
        # The network ran in low precision all the same: its outputs are its numbers.
        low = row.autocast or row.weights
        assert torch.equal(value, value.to(low).float())


def test_compiled_code_is_held_to_the_precision_of_the_network() -> None:
    """It rounds less often than the reference; the features are float32 all the same."""
    net = network(MODES["bfloat16"])[0]
    ours, theirs = (
        adapter_of(net, Ridge(), GaussNewton(engine=engine), CrossEntropy()).fit(X.float(), LABELS)
        for engine in ("compiled", "fast")
    )
    assert bool(ours.z.any()) and distance(ours.z, theirs.z) <= 0.02
