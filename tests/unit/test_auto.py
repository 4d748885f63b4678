"""The solver that chooses: what it chooses, when it stops, what it pays, by hand where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import vmap

import adapt
from adapt import AdaptError
from adapt.adapter import Problem, initial_state
from adapt.adapter.problem import model_of
from adapt.heads import Logistic, Prototype, Ridge, one_hot
from adapt.inner import Auto, CrossEntropy, GaussNewton, Linearised, Loss, Model, SquaredError, Trace, plain
from adapt.inner.auto import SOLVERS
from adapt.inner.cross_validation import Linear, folds_of
from tasks import FunctionTasks, Sinusoid
from tests.helpers import distance

F64 = torch.float64
RIDGE = Problem(SquaredError(), Ridge(scale=1.0), Ridge(scale=1.0))
CLASSIFY = Problem(CrossEntropy(), Prototype(temperature=1.0), Logistic(l2=0.1))
QUIET = 2  # a seed with which noise looks like noise


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def task(seed: int, useful: tuple[int, ...] = (), k: int = 4, n: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Features ``[n, 6]``, derivatives ``[k, n, 6]`` and one-hot rows of two classes; only along the
    ``useful`` directions do the features learn the class."""
    x, columns = randn(n, 6, seed=seed), 0.3 * randn(k, n, 6, seed=seed + 1000)
    targets = one_hot(torch.arange(n) % 2, 2, F64)
    sign = targets[:, :1] - targets[:, 1:]  # [n, 1]
    for j in useful:
        columns[j] += sign * randn(6, seed=7 + j) * 2
    return x, columns, targets


def model_for(x: Tensor, columns: Tensor, targets: Tensor, problem: Problem = CLASSIFY) -> Model:
    state = initial_state(torch.zeros(1, dtype=F64), torch.zeros(1, len(columns), dtype=F64))
    return model_of(lambda z: x + torch.tensordot(z, columns, 1), state, targets, problem)


def choose(
    solver: Auto, x: Tensor, columns: Tensor, targets: Tensor, problem: Problem = CLASSIFY
) -> tuple[Tensor, Trace]:
    learned = plain(torch.ones(len(columns), dtype=F64))
    return solver(model_for(x, columns, targets, problem), targets, problem.loss, learned)


# ------------------------------------------------------------------------------------------ the choice


def test_directions_of_pure_noise_are_left_alone() -> None:
    """At least 45 of 50 seeds; the errors are few because a win must exceed its own standard error."""
    kept = [not choose(Auto((2, 4), steps=3), *task(seed))[0].any() for seed in range(50)]
    assert sum(kept) >= 45


def test_directions_that_help_are_taken() -> None:
    moved = 0
    for seed in range(10):
        z, trace = choose(Auto((2, 4), steps=3), *task(seed, useful=(0,)))
        moved += bool(z.any())
        assert (z != 0).sum() in (0, 2, 4)
        assert trace.choice.startswith("adapted along" if z.any() else "not adapted: along")
    assert moved >= 9


def by_hand(solver: Auto, x: Tensor, columns: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the head alone and of fully adapting, by loops over folds and examples, on the rows
    themselves."""
    head, loss, prior = CLASSIFY.head, CLASSIFY.loss, plain(torch.ones(len(columns), dtype=F64))
    z = Linearised(solver.steps)(model_for(x, columns, targets), targets, loss, prior)[0]
    there, scores = x + torch.tensordot(z, columns, 1), torch.zeros(2, len(x), dtype=F64)
    for i in range(len(x)):
        place, rest = int((targets[:i] * targets[i]).sum()), torch.arange(len(x)) != i
        fold = [j for j in range(len(x)) if int((targets[:j] * targets[j]).sum()) % 3 != place % solver.folds]
        moved = one_step_from(z, there[fold], columns[:, fold], targets[fold])
        state = head.fit(there, targets)
        shift = head.logits(state, (there + torch.tensordot(moved - z, columns, 1))[i : i + 1])
        shift = shift - head.logits(state, there[i : i + 1])
        for way, (features, more) in enumerate(((x, 0.0), (there, shift))):
            alone = head.fit(features[rest], targets[rest])
            outputs = head.logits(alone, features[i : i + 1]) + more
            scores[way, i] = loss.values(outputs, targets[i : i + 1])
    return scores[0], scores[1]


def one_step_from(z: Tensor, there: Tensor, columns: Tensor, targets: Tensor) -> Tensor:
    """z after a Gauss–Newton step under the prior N(0, I) on features that are ``there [n, D]`` at z."""
    model = model_for(there, columns, targets)

    def outputs(shift: Tensor) -> Tensor:
        return model(shift)

    zero = torch.zeros_like(z)
    at, slopes = outputs(zero), torch.func.jacfwd(outputs)(zero)  # [n, C], [n, C, k]
    p = at.softmax(-1)
    bent = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    curvature = torch.einsum("nck,nce,nej->kj", slopes, bent, slopes) + torch.eye(len(z), dtype=F64)
    return z - torch.linalg.solve(curvature, torch.einsum("nck,nc->k", slopes, p - targets) + z)


def test_scores_are_those_of_leaving_out_by_loops() -> None:
    """Up to second order, of the one Newton step with which the head leaves an example out, and of the way
    from z."""
    solver = Auto(directions=(4,), strengths=(1.0,), solvers=("linearised",), steps=12, folds=3)
    for seed, useful in ((0, ()), (1, (0,)), (2, (0, 1)), (3, (2,))):
        x, columns, targets = task(seed, useful, n=24)
        learned, keep = plain(torch.ones(4, dtype=F64)), folds_of(targets, 3, CLASSIFY.loss)
        linear = Linear(model_for(x, columns, targets), x, columns, targets, CLASSIFY.loss, learned)
        head = linear.alone()
        (moved,) = linear.candidates("linearised", solver.steps, (1.0,), keep)
        for candidate, expected in zip((head, moved), by_hand(solver, x, columns, targets), strict=True):
            assert distance(candidate.scores, expected) <= 0.15
            assert candidate.scores.mean().item() == pytest.approx(expected.mean().item(), rel=0.1, abs=0.02)


def refitted(solver: str, steps: int, x: Tensor, columns: Tensor, targets: Tensor) -> Tensor:
    """Loss of each example from z and a head that were fitted without it."""
    losses, prior = [], plain(torch.ones(len(columns), dtype=F64))
    way = GaussNewton() if solver == "gauss_newton" else Linearised(steps)
    for i in range(len(x)):
        rest = torch.arange(len(x)) != i
        z = way(model_for(x[rest], columns[:, rest], targets[rest]), targets[rest], CLASSIFY.loss, prior)[0]
        there = x + torch.tensordot(z, columns, 1)
        logits = CLASSIFY.head.logits(CLASSIFY.head.fit(there[rest], targets[rest]), there[i : i + 1])
        losses.append(CLASSIFY.loss.values(logits, targets[i : i + 1]))
    return torch.cat(losses)


@pytest.mark.parametrize(("solver", "steps"), [("gauss_newton", 1), ("linearised", 8)])
def test_what_is_gained_is_what_refitting_finds(solver: str, steps: int) -> None:
    """Leaving one example out of z and head, by refitting both, over six tasks: the same winner wherever the
    two differ by more than a standard error, and gains that go together."""
    gains, learned = [], plain(torch.ones(4, dtype=F64))
    for seed in range(6):
        x, columns, targets = task(seed, (0,) if seed % 2 else (), n=16)
        keep = folds_of(targets, 5, CLASSIFY.loss)
        linear = Linear(model_for(x, columns, targets), x, columns, targets, CLASSIFY.loss, learned)
        head = linear.alone()
        (moved,) = linear.candidates(solver, steps, (1.0,), keep)
        wins = refitted(solver, 0, x, columns[:0], targets) - refitted(solver, steps, x, columns, targets)
        gains.append((float((head.scores - moved.scores).mean()), float(wins.mean())))
        if wins.mean().abs() > 2 * wins.std() / len(wins) ** 0.5:
            assert gains[-1][0] * gains[-1][1] > 0
    assert np.corrcoef(np.array(gains).T)[0, 1] >= 0.9


def test_what_is_chosen_is_solved_on_all_examples() -> None:
    x, columns, targets = task(1, useful=(0,))
    z, _ = choose(Auto((2,), (4.0,)), x, columns, targets)
    model = model_for(x, columns[:2], targets)
    expected, _ = Linearised(4)(model, targets, CLASSIFY.loss, plain(torch.full((2,), 4.0, dtype=F64)))
    assert distance(z[:2], expected) <= 1e-10
    assert not z[2:].any()


def test_one_gauss_newton_step_is_the_step_of_that_solver() -> None:
    """Nothing is lost by taking it on linearised features: at z = 0 they have the same Jacobian."""
    x, columns, targets = task(3, useful=(0,))
    z, _ = choose(Auto((2,), (4.0,), ("gauss_newton",)), x, columns, targets)
    model, prior = model_for(x, columns[:2], targets), plain(torch.full((2,), 4.0, dtype=F64))
    assert distance(z[:2], GaussNewton()(model, targets, CLASSIFY.loss, prior)[0]) <= 1e-10


def test_the_solver_is_a_choice() -> None:
    """Of the same tangents, so that trying both costs no more; where both are as good, the first one."""
    x, columns, targets = task(1, useful=(0,))
    both = [choose(Auto((2,), (4.0,), solvers), x, columns, targets)[1] for solvers in (SOLVERS, SOLVERS[1:])]
    assert both[0].forward_equivalents == both[1].forward_equivalents
    assert both[0].choice == both[1].choice and "linearised" in both[0].choice
    quadratic = choose(Auto(), columns[0].new_ones(12, 1), columns.new_ones(4, 12, 1), x[:12, :1], RIDGE)[1]
    assert "linearised" not in quadratic.choice


# ------------------------------------------------------------------------------------------ what it costs


def test_more_directions_are_paid_for_only_where_the_last_ones_helped() -> None:
    solver = Auto((2, 4, 8))
    _, noise = choose(solver, *task(QUIET, k=8))
    assert noise.forward_equivalents == 1 + 3 + 7  # two, and then all eight at once, before giving up
    x, columns, targets = task(0, useful=(0,), k=8)
    z, trace = choose(solver, x, columns, targets)
    assert int((z != 0).sum()) == 2
    assert trace.forward_equivalents == 1 + 3 + 3  # the third and fourth were tried, and were no help


def test_a_basis_whose_best_directions_come_last_is_not_given_up() -> None:
    x, columns, targets = task(0, useful=(0,), k=8)
    z, trace = choose(Auto((2, 4, 8)), x, columns.flip(0), targets)
    assert "adapted along 8 directions" in trace.choice
    assert z.abs().argmax() == 7
    assert trace.forward_equivalents == 1 + 3 + 7


def test_enough_stops_before_any_tangent() -> None:
    x, columns, targets = task(0, useful=(0,))
    model = model_for(x, columns, targets)
    calls: list[Tensor] = []

    def features(z: Tensor) -> Tensor:
        calls.append(z)
        return model.features(z)

    z, trace = Auto(enough=1e6)(
        model._replace(features=features), targets, CLASSIFY.loss, plain(torch.ones(4, dtype=F64))
    )
    assert len(calls) == 1 and trace.forward_equivalents == 1
    assert not z.any() and trace.losses.shape == (1,)
    assert "there is nothing to gain" in trace.choice


@pytest.mark.parametrize(
    ("k", "stages"),
    [(1, [1]), (2, [2]), (3, [2, 3]), (4, [2, 4]), (5, [2, 4, 5]), (8, [2, 4, 8]), (99, [2, 4, 8])],
)
def test_stages(k: int, stages: list[int]) -> None:
    assert [*Auto((2, 4, 8))._stages(k)] == stages


def test_explanations() -> None:
    x, columns, targets = task(1, useful=(0,))
    _, trace = choose(Auto((2,), (4.0,)), x, columns, targets)
    assert trace.choice.startswith(
        "adapted along 2 directions under 4 times the learned prior, linearised: held-out loss "
    )
    _, trace = choose(Auto((2,), (1.0,), ("gauss_newton",)), *task(3, useful=(0,)))
    assert trace.choice.startswith("adapted along 2 directions, one Gauss-Newton step: held-out loss ")
    _, trace = choose(Auto((1,)), *task(QUIET))
    assert trace.choice.startswith("not adapted: along 1 direction the held-out loss is ")
    _, trace = choose(Auto((2,)), *task(QUIET))
    assert trace.choice.startswith("not adapted: along 2 directions the held-out loss is ")
    assert trace.choice.endswith("of the head alone, not better by more than its standard error")
    for few in ([0, 1, 2, 3, 4], [0, 2, 4, 6, 1, 3]):  # two examples of the second class
        _, trace = choose(Auto(), x[few], columns[:, few], targets[few])
        assert trace.choice == "not adapted: too few examples to hold any out"
        assert trace.forward_equivalents == 1
    assert "too few" not in choose(Auto(), x[:6], columns[:, :6], targets[:6])[1].choice
    for n, fault in ((2, True), (3, False)):
        choice = choose(Auto(), x[:n], columns[:, :n], x[:n, :1], RIDGE)[1].choice
        assert ("too few" in choice) == fault


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 50), useful=st.booleans(), data=st.data())
def test_interleaving_the_classes_otherwise_changes_nothing(
    seed: int, useful: bool, data: st.DataObject
) -> None:
    """Folds go by the rank within a class: any merge of the two classes gives the same z."""
    x, columns, targets = task(seed, (0,) if useful else (), k=2, n=12)
    labels = data.draw(st.permutations([0] * 6 + [1] * 6))
    queues = [[*range(0, 12, 2)], [*range(1, 12, 2)]]
    order = [queues[label].pop(0) for label in labels]
    solver = Auto((2,))
    z, trace = choose(solver, x, columns, targets)
    again, their_trace = choose(solver, x[order], columns[:, order], targets[order])
    assert distance(z, again) <= 1e-8
    assert trace.choice == their_trace.choice


# ------------------------------------------------------------------------------------------ transforms


@pytest.mark.parametrize("problem", [CLASSIFY, RIDGE], ids=["classes", "values"])
def test_a_batch_of_tasks_chooses_as_each_alone(problem: Problem) -> None:
    """Also where tasks on their own would stop earlier: what they had not looked at does not count."""
    drawn = [task(seed, useful, k=8) for seed in range(4) for useful in ((), (0,), (2,), (0, 1, 2, 5))]
    x, columns, targets = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    solver = Auto((2, 4, 8), enough=0.05)

    def run(x: Tensor, columns: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        z, trace = choose(solver, x, columns, targets, problem)
        return z, trace.losses

    z, losses = vmap(run)(x, columns, targets)
    sizes = set()
    for t, one in enumerate(drawn):
        alone, start = run(*one)
        assert distance(z[t], alone) <= 1e-8
        assert distance(losses[t], start) <= 1e-8
        sizes.add(int((alone != 0).sum()))
    assert len(sizes) > 1 and 0 in sizes


@pytest.mark.parametrize("useful", [(), (0,)], ids=["head alone", "adapted"])
def test_solution_is_differentiable_where_the_choice_does_not_change(useful: tuple[int, ...]) -> None:
    x, columns, targets = task(1 if useful else QUIET, useful, k=2)
    precision = torch.ones(2, dtype=F64)

    def run(x: Tensor, columns: Tensor, precision: Tensor) -> Tensor:
        return Auto((2,))(model_for(x, columns, targets), targets, CLASSIFY.loss, plain(precision))[0]

    inputs = tuple(tensor.requires_grad_(True) for tensor in (x, columns, precision))
    assert bool(run(*inputs).any()) == bool(useful)
    assert gradcheck(run, inputs, fast_mode=True)


def test_gradient_through_a_batch_is_that_of_each_task() -> None:
    drawn = [task(seed, useful, k=2) for seed, useful in ((QUIET, ()), (1, (0,)))]
    x, columns, targets = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    columns.requires_grad_(True)
    run: Callable[..., Any] = lambda *parts: choose(Auto((2,)), *parts)[0]  # noqa: E731
    (together,) = torch.autograd.grad(vmap(run)(x, columns, targets).square().sum(), columns)
    alone = torch.autograd.grad(
        sum(run(x[t], columns[t], targets[t]).square().sum() for t in (0, 1)), columns
    )[0]
    assert distance(together, alone) <= 1e-8
    assert bool(alone.any())


# ------------------------------------------------------------------------------------------ settings


def test_lists_become_tuples() -> None:
    assert Auto(directions=[1, 2], strengths=[1.0]) == Auto((1, 2), (1.0,))  # type: ignore[arg-type]
    hash(Auto([1, 2], [1.0]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"directions": ()}, r"inner.directions=\(\): positive, increasing"),
        ({"directions": (2, 2)}, r"inner.directions=\(2, 2\)"),
        ({"directions": (4, 2)}, r"inner.directions=\(4, 2\)"),
        ({"directions": (0, 2)}, r"inner.directions=0: positive, increasing"),
        ({"strengths": ()}, r"inner.strengths=\(\): positive"),
        ({"strengths": (1.0, 0.0)}, r"inner.strengths"),
        ({"strengths": (float("nan"),)}, r"inner.strengths"),
        ({"folds": 1}, r"inner.folds=1: at least 2 folds"),
        ({"solvers": ()}, r"inner.solvers=\(\): of gauss_newton, linearised, one at least"),
        ({"solvers": ("newton",)}, r"inner.solvers=.*: of gauss_newton, linearised"),
        ({"steps": 0}, r"inner.steps=0: at least"),
        ({"engine": "slow"}, r"inner.engine=slow: choose fast"),
    ],
)
def test_bad_settings_are_named(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        Auto(**settings_)


def test_a_model_without_a_head_is_judged_by_its_own_outputs() -> None:
    loss: Loss = SquaredError()
    a, target = randn(12, 2, 3), torch.zeros(12, 2, dtype=F64)
    z, trace = Auto()(lambda z: a @ (z + 1), target, loss, plain(1e-6 * torch.ones(3, dtype=F64)))
    assert distance(z, torch.full((3,), -1.0, dtype=F64)) <= 1e-4
    assert trace.choice.startswith("adapted along 3 directions")


# ------------------------------------------------------------------------------------------ evidence


@pytest.mark.parametrize("useful", [0, 1, 2])
def test_values_are_weighed_by_evidence(useful: int) -> None:
    """Of four directions the first few are used by tasks; the others are noise, and cost nothing but
    evidence."""
    right = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        a = torch.randn(40, 1, 4, generator=generator, dtype=F64)
        z = torch.cat(
            [2 + torch.rand(useful, generator=generator, dtype=F64), torch.zeros(4 - useful, dtype=F64)]
        )
        y = a @ z + 0.3 * torch.randn(40, 1, generator=generator, dtype=F64)
        found, trace = Auto((1, 2, 4), (1.0,))(
            lambda z, a=a: a @ z, y, SquaredError(), plain(torch.full((4,), 0.01, dtype=F64))
        )
        right += int((found != 0).sum()) == useful
        assert trace.forward_equivalents == 5
        assert "log evidence" in trace.choice
    assert right >= 18


def test_what_was_meta_learned_needs_strong_evidence_against_it() -> None:
    adapter = adapt.load("mlp_sinusoid")
    auto, always = adapter.replace(solver=Auto()), adapter.replace(solver=GaussNewton())
    for episode in FunctionTasks(Sinusoid(noise=0.0), 2, 5, "test").episodes(0, 20):
        fitted = [it.fit(episode.support_x, episode.support_y) for it in (auto, always)]
        assert torch.allclose(fitted[0].z, fitted[1].z, atol=1e-4)
