"""What a fitted task says of its own uncertainty, and what it does with it, on real adapters and data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter, FittedTask
from adapt.adapter import Calibration
from adapt.adapter.memory import ROWS
from adapt.adapter.online import LEVEL
from adapt.heads import Direct
from adapt.inner import Auto, Descent, GaussNewton, Linearised, SquaredError
from adapt.inner.posterior import covariance
from tasks import Digits, FunctionTasks, Sinusoid
from tests.helpers import make_adapter

F64 = torch.float64


class Line(nn.Module):
    """Outputs that are linear in the parameters: everything has a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False, dtype=F64)
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.cat([torch.ones_like(x), x], 1))  # type: ignore[no-any-return]


@pytest.fixture
def line() -> FewShotAdapter:
    adapter = FewShotAdapter.of(Line(), regression=True, head=Direct(), support_head=Direct())
    state = adapter.state
    basis = torch.eye(2, dtype=F64)
    return adapter.replace(
        state=adapt.adapter.initial_state(state.origin, basis), calibration=Calibration(0.04, 0.01)
    )


X = torch.linspace(-1, 1, 9, dtype=F64)[:, None]
Y = 2 * X - 0.5 + 0.1 * torch.sin(37 * X)


# ------------------------------------------------------------------------------------------ predicting


def test_standard_deviations_are_those_of_the_closed_form(line: FewShotAdapter) -> None:
    mean, std = line.fit(X, Y).predict([[0.3], [5.0]], return_std=True)
    rows = torch.cat([torch.ones_like(X), X], 1)
    inverse = torch.linalg.inv(rows.T @ rows + torch.eye(2, dtype=F64))
    new = torch.tensor([[1, 0.3], [1, 5.0]], dtype=F64)
    assert mean == pytest.approx((new @ inverse @ rows.T @ Y).numpy())
    variance = 0.04 * ((new @ inverse) * new).sum(1, keepdim=True) + 0.01
    assert std == pytest.approx(variance.sqrt().numpy())


def test_where_nothing_was_learned_the_examples_say_how_sure(line: FewShotAdapter) -> None:
    task = line.replace(calibration=None).fit(X, Y)
    assert task.posterior is not None
    left = torch.as_tensor(task.predict(X)) - Y
    expected = float((left.square().sum() + task.z.square().sum()) / len(X))
    assert float(task.posterior.spread) == float(task.posterior.noise) == pytest.approx(expected)


def test_probabilities_are_those_of_an_average_over_z(backbone: nn.Module) -> None:
    x, y = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0)), [0, 1, 2] * 4
    task = make_adapter(backbone).fit(x, y)
    assert task.posterior is not None
    generator = torch.Generator().manual_seed(1)
    factor = torch.linalg.cholesky(covariance(task.posterior) + 1e-9 * torch.eye(len(task.z)))
    drawn = task.z + torch.randn(200, len(task.z), generator=generator) @ factor.T
    sampled = np.mean([_at(task, z).predict_proba(x[:3]) for z in drawn], 0)
    found = task.predictive(x[:3])
    assert found.probabilities == pytest.approx(sampled, abs=0.03)
    assert task.predict_proba(x[:3], average=True) == pytest.approx(found.probabilities)
    assert found.mean == pytest.approx(task.logits(x[:3]).numpy(), abs=1e-4)


def _at(task: FittedTask, z: Tensor) -> FittedTask:
    return replace(task, z=z, parameters=task.adapter.subspace.parameters(z))


@pytest.mark.parametrize("solver", [GaussNewton(), GaussNewton(steps=3), Linearised(), Auto()])
def test_every_solver_with_a_jacobian_has_a_posterior(
    solver: GaussNewton | Linearised | Auto, tmp_path: Path
) -> None:
    adapter = adapt.load("mlp_sinusoid").replace(solver=solver)
    task = adapter.fit(X.float(), Y.float())
    x = torch.tensor([[0.2], [4.0]])
    found = task.predictive(x)
    assert found.mean == pytest.approx(task.predict(x), abs=1e-5)
    assert (found.epistemic[0] < found.epistemic[1]).all()
    task.save_pretrained(tmp_path)
    loaded = adapt.load(tmp_path)
    assert isinstance(loaded, FittedTask)
    assert np.array_equal(loaded.predictive(x).epistemic, found.epistemic)
    double = task.to(torch.float64).predictive(x.double())
    assert double.epistemic == pytest.approx(found.epistemic, rel=1e-3)


def test_what_has_none_says_so() -> None:
    adapter = adapt.load("mlp_sinusoid")
    task = adapter.replace(solver=Descent()).fit(X.float(), Y.float())
    with pytest.raises(AdaptError, match="Descent makes no Jacobian"):
        task.predictive(X.float())
    shot = adapt.load("conv4_glyphs_film").fit(torch.rand(2, 1, 32, 32), ["a", "b"])
    with pytest.raises(AdaptError, match="a class has a single example"):
        shot.predictive(torch.rand(1, 1, 32, 32))
    many = adapt.load("conv4_glyphs_film").fit(torch.rand(4, 1, 32, 32), ["a", "b", "a", "b"])
    with pytest.raises(AdaptError, match="classes have no standard deviation"):
        many.predict(torch.rand(1, 1, 32, 32), return_std=True)


# ------------------------------------------------------------------------------------------ online


@pytest.mark.parametrize("parts", [[1] * 9, [4, 5], [9]])
def test_online_is_the_fit_to_all(line: FewShotAdapter, parts: list[int]) -> None:
    first, *rest = zip(X.split(parts), Y.split(parts), strict=True)
    task = line.fit(*first)
    for x, y in rest:
        task = task.partial_fit(x, y)
    whole = line.fit(X, Y)
    assert torch.allclose(task.z, whole.z, rtol=1e-8, atol=1e-8)
    assert task.posterior is not None and whole.posterior is not None
    assert torch.allclose(task.posterior.precision, whole.posterior.precision)
    assert float(task.posterior.spread) == pytest.approx(float(whole.posterior.spread))


def test_online_with_a_head_equals_the_fit_and_learns_new_classes(backbone: nn.Module) -> None:
    """Features that are linear in z: of a network of one linear layer."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 4, dtype=F64))
    adapter = FewShotAdapter.of(network, solver=Linearised(steps=8))
    x = torch.randn(20, 6, dtype=F64)
    y = np.array(["a", "b"] * 6 + ["c", "a", "c", "b"] * 2)
    task = adapter.fit(x[:12], y[:12], keep=True).partial_fit(x[12:], y[12:])
    whole = adapter.fit(x, y)
    assert task.classes_.tolist() == ["a", "b", "c"]
    assert task.z.numpy() == pytest.approx(whole.z.numpy(), abs=1e-3)
    assert task.predict_proba(x) == pytest.approx(whole.predict_proba(x), abs=1e-3)
    with pytest.raises(AdaptError, match="keep=True"):
        whole.partial_fit(x, y)
    assert task.memory is not None and len(task.memory.targets) == 20
    fewer = task.partial_fit(x[:2], y[:2], forget=0.5)
    assert fewer.memory is not None and len(fewer.memory.targets) == 12  # 4 of 8 a, 4 of 8 b, 2 of 4 c


def test_memory_is_bounded_and_keeps_rare_classes() -> None:
    adapter = FewShotAdapter.of(nn.Linear(2, 3))
    x = torch.randn(ROWS + 50, 2, generator=torch.Generator().manual_seed(0))
    y = ["rare"] * 2 + ["often"] * (ROWS + 48)
    task = adapter.fit(x[:20], y[:20], keep=True).partial_fit(x[20:], y[20:])
    assert task.memory is not None and len(task.memory.targets) == ROWS
    assert task.memory.targets.sum(0).tolist() == [ROWS - 2, 2]


def test_a_change_is_noticed_and_nothing_else(line: FewShotAdapter) -> None:
    """By values drawn from the model itself p-values are uniform; of another line they are tiny."""
    generator = torch.Generator().manual_seed(0)
    line = line.replace(calibration=Calibration(0.01, 0.01))
    found = []
    for _ in range(200):
        z = 0.1 * torch.randn(2, generator=generator, dtype=F64)
        rows = torch.cat([torch.ones_like(X), X], 1)
        y = rows @ z[:, None] + 0.1 * torch.randn(9, 1, generator=generator, dtype=F64)
        task = line.fit(X[::2], y[::2])
        found.append(task.surprise(X[1::2], y[1::2]).p_value)
    values, counts = np.unique(np.floor(np.array(found) * 4), return_counts=True)
    assert values.tolist() == [0, 1, 2, 3] and counts.min() > 30
    assert task.surprise(X, 3 - X).p_value < LEVEL


def test_after_a_change_only_what_came_since_counts(line: FewShotAdapter) -> None:
    generator = torch.Generator().manual_seed(0)
    line = line.replace(calibration=Calibration(0.01, 0.01))

    def streamed(slopes: list[float], **how: object) -> FittedTask:
        task = line.fit(X, slopes[0] * X)
        for slope in slopes[1:]:
            y = slope * X + 0.1 * torch.randn(9, 1, generator=generator, dtype=F64)
            task = task.partial_fit(X, y, **how)  # type: ignore[arg-type]
        return task

    calm = streamed([1.0] * 30, on_change="forget")
    assert calm.posterior is not None and float(calm.posterior.examples) == 270
    changed = streamed([1.0] * 20 + [-2.0] * 2, on_change="forget")
    assert changed.posterior is not None and float(changed.posterior.examples) == 18
    assert changed.predict([[1.0]])[0, 0] == pytest.approx(-2.0, abs=0.4)
    assert streamed([1.0] * 20 + [-2.0] * 2).predict([[1.0]])[0, 0] > 0
    odd = streamed([1.0] * 20 + [-2.0] + [1.0] * 5, on_change="forget")  # one strange moment is no change
    assert odd.posterior is not None and float(odd.posterior.examples) == 234


def test_surprise_of_classes_is_a_share_of_draws() -> None:
    adapter, digits = adapt.load("conv4_glyphs_film"), Digits()
    members = digits.classes("support")
    names = sorted(members)[:5]
    x = torch.cat([digits.load(members[name][:12]) for name in names])
    y = np.repeat(names, 12)
    support = np.arange(60) % 12 < 6
    task = adapter.fit(x[support], y[support])
    calm = task.surprise(x[~support], y[~support])
    odd = task.surprise(x[~support], np.roll(y[~support], 6))
    assert odd.p_value < LEVEL < calm.p_value
    assert task.surprise(x[:1], ["never seen"]).p_value == 0.0


# ------------------------------------------------------------------------------------------ labels


def test_what_to_label_next_is_far_from_what_is_known(line: FewShotAdapter) -> None:
    task = line.fit(X[4:5], Y[4:5])  # at 0
    pool = torch.tensor([[0.0], [0.1], [-1.0], [0.9], [1.0]], dtype=F64)
    assert task.suggest(pool, 2).tolist() in ([2, 4], [4, 2])
    assert sorted(task.suggest(pool, 5).tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(AdaptError, match=r"n=6: of 5 examples in the pool, choose 1 … 5"):
        task.suggest(pool, 6)
    with pytest.raises(AdaptError, match="the pool holds no examples"):
        task.suggest(pool[:0], 1)


def test_classes_that_are_hard_to_tell_apart_are_labelled_next() -> None:
    """Also after one example of each, where there is no posterior; in any order of the pool."""
    digits = Digits()
    members = digits.classes("support")
    for names, shots in ((["3", "5", "8"], 1), (["3", "8"], 3)):
        x = torch.cat([digits.load(members[name][:20]) for name in names])
        first = np.arange(len(x)) % 20 < shots
        task = adapt.load("conv4_glyphs_film").fit(x[first], np.repeat(names, 20)[first])
        pool = x[~first]
        ranked = np.sort(task.predict_proba(pool), 1)
        margin = ranked[:, -1] - ranked[:, -2]
        assert margin[task.suggest(pool, 7)] == pytest.approx(np.sort(margin)[:7], abs=1e-6)
        assert sorted(task.suggest(pool, len(pool))) == [*range(len(pool))]
        for many in (0, len(pool) + 1):
            with pytest.raises(AdaptError, match="examples in the pool, choose"):
                task.suggest(pool, many)
        with pytest.raises(AdaptError, match="the pool holds no examples"):
            task.suggest(pool[:0], 1)


def test_influence_is_that_of_refitting_without(line: FewShotAdapter) -> None:
    task = line.fit(X, Y, keep=True)
    found = task.influence()
    for i in range(len(X)):
        rest = torch.arange(len(X)) != i
        alone = line.fit(X[rest], Y[rest]).predict(X[[i]])
        left = (torch.as_tensor(alone) - Y[[i]]).square()
        assert task.posterior is not None
        row = torch.cat([torch.ones(1, 1, dtype=F64), X[[i]]], 1)
        variance = row @ covariance(task.posterior) @ row.T + 0.01
        expected = 0.5 * (left / variance + (2 * torch.pi * variance).log())
        assert found[i] == pytest.approx(float(expected))
    with pytest.raises(AdaptError, match="keep=True"):
        line.fit(X, Y).influence()


# ------------------------------------------------------------------------------------------ together


def test_together_is_the_joint_fit_and_two_rounds_are_two_steps() -> None:
    adapter = adapt.load("mlp_sinusoid").to(torch.float64)
    episode = FunctionTasks(Sinusoid(noise=0.0), 12, 1, "test").episode(0)
    x, y = episode.support_x.double(), episode.support_y.double()
    clients = [(x[i::3], y[i::3]) for i in range(3)]
    for steps in (1, 2):
        at = None
        for _ in range(steps):
            sent = [adapter.statistics(*client, at=at) for client in clients]
            task = adapter.fit_statistics(sent)
            at = task.z
        whole = adapter.replace(solver=GaussNewton(steps=steps)).fit(x, y)
        assert task.z.numpy() == pytest.approx(whole.z.numpy(), rel=1e-6)
    assert task.posterior is not None and whole.posterior is not None
    assert torch.allclose(task.posterior.precision, whole.posterior.precision)
    assert sent[0].nbytes == 8 * (4 * 5 // 2 + 8) and isinstance(adapter.loss, SquaredError)
    with pytest.raises(AdaptError, match="in one round"):
        adapter.fit_statistics([adapter.statistics(*clients[0]), sent[0]])
    with pytest.raises(AdaptError, match="fitted to all examples"):
        adapt.load("conv4_glyphs_film").statistics(torch.rand(4, 1, 32, 32), [0, 0, 1, 1])
