"""Going on with a task: the same as all examples at once, whatever the examples, labels and settings are."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import adapt
from adapt import AdaptError, FewShotAdapter, FittedTask
from adapt.adapter.memory import ROWS, joined, newest
from adapt.adapter.online import _of_classes
from adapt.adapter.problem import Memory, model_of
from adapt.heads import Direct, Ridge
from adapt.inner import CrossEntropy, GaussNewton, Linearised, SquaredError
from tests.unit.test_uncertainty import X, Y, line  # noqa: F401 (a fixture)

F64 = torch.float64
GENERATOR = torch.Generator().manual_seed(0)
ROWS_OF_X = torch.cat([torch.ones_like(X), X], 1)
#: Three classes of twelve points, two of a kind near each other.
POINTS = torch.randn(36, 6, generator=GENERATOR, dtype=F64)
KINDS = np.arange(36) % 3


class Counting(nn.Module):
    """Says how often it was called."""

    def __init__(self, features: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.calls = nn.Linear(6, features, dtype=F64), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x)  # type: ignore[no-any-return]


def with_head(**parts: Any) -> FewShotAdapter:
    return FewShotAdapter.of(Counting(4), solver=Linearised(steps=8), **parts)


def direct(features: int, **parts: Any) -> FewShotAdapter:
    return FewShotAdapter.of(Counting(features), head=Direct(), support_head=Direct(), **parts)


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("order", [range(9), [8, 0, 5, 1, 7, 2, 6, 3, 4]])
def test_where_nothing_was_learned_it_is_as_sure_as_all_examples_make_it(
    line: FewShotAdapter,  # noqa: F811
    order: list[int],
) -> None:
    task = line.replace(calibration=None).fit(X[order[:1]], Y[order[:1]])
    for row in order[1:]:
        task = task.partial_fit(X[[row]], Y[[row]])
    z = torch.linalg.solve(ROWS_OF_X.T @ ROWS_OF_X + torch.eye(2, dtype=F64), ROWS_OF_X.T @ Y)
    noise = ((ROWS_OF_X @ z - Y).square().sum() + z.square().sum()) / 9
    assert task.posterior is not None
    assert float(task.posterior.spread) == float(task.posterior.noise) == pytest.approx(float(noise))
    whole = line.replace(calibration=None).fit(X, Y)
    assert task.predict(X, return_std=True)[1] == pytest.approx(whole.predict(X, return_std=True)[1])


def test_hundreds_of_single_rows_in_single_precision_do_not_drift(line: FewShotAdapter) -> None:  # noqa: F811
    """By the closed form, and nothing grows."""
    generator = torch.Generator().manual_seed(3)
    x = 100 * torch.randn(400, 1, generator=generator)
    y = 0.3 * x - 2 + torch.randn(400, 1, generator=generator)
    task = line.to(torch.float32).fit(x[:1], y[:1])
    for row in range(1, 400):
        task = task.partial_fit(x[[row]], y[[row]])
    rows = torch.cat([torch.ones_like(x), x], 1).double()
    a = rows.T @ rows + torch.eye(2, dtype=F64)
    expected = torch.linalg.solve(a, rows.T @ y.double())[:, 0]
    assert task.posterior is not None and task.memory is None
    assert torch.allclose(task.posterior.precision, a, rtol=1e-12)
    assert torch.allclose(task.z.double(), expected, rtol=1e-5)
    assert sum(it.numel() for it in task.posterior) == 2 + 4 + 2 + 3


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_a_change_is_noticed_whatever_the_unit_and_the_first_examples(
    line: FewShotAdapter,  # noqa: F811
    size: float,
) -> None:
    """Two examples lie on a line exactly, under a prior that says little, and nothing was learned: by them
    any other is a surprise."""
    generator = torch.Generator().manual_seed(4)
    free = line.state._replace(log_precision=line.state.log_precision - 12)
    task = line.replace(calibration=None, state=free).to(torch.float32)
    task = task.fit(X[:2].float(), size * X[:2].float())
    for slope in (1.0,) * 20 + (-2.0,) * 3:
        y = slope * X + 0.1 * torch.randn(9, 1, generator=generator, dtype=F64)
        task = task.partial_fit(X.float(), (size * y).float(), on_change="forget")
    assert task.posterior is not None and float(task.posterior.examples) == 27
    assert task.predict([[1.0]])[0, 0] / size == pytest.approx(-2.0, abs=0.4)


def test_a_head_that_is_fitted_is_as_sure_as_all_examples_make_it() -> None:
    y = POINTS.sum(1) + 0.1 * torch.randn(36, generator=GENERATOR, dtype=F64)
    heads = {"head": Ridge(scale=1.0), "support_head": Ridge(scale=1.0)}
    adapter = with_head(regression=True, **heads)
    task = adapter.fit(POINTS[:10], y[:10], keep=True).partial_fit(POINTS[10:], y[10:])
    whole = adapter.fit(POINTS, y)
    mean, std = task.predict(POINTS, return_std=True)
    assert mean == pytest.approx(whole.predict(POINTS), abs=1e-3)
    assert std == pytest.approx(whole.predict(POINTS, return_std=True)[1], rel=1e-3)


def test_what_it_keeps_without_a_head_is_looked_back_at(line: FewShotAdapter) -> None:  # noqa: F811
    task = line.fit(X[:4], Y[:4], keep=True).partial_fit(X[4:], Y[4:])
    assert task.influence() == pytest.approx(line.fit(X, Y, keep=True).influence())
    for how in ({"forget": 0.9}, {"on_change": "forget"}):
        with pytest.raises(AdaptError, match="no partial_fit that forgets"):
            task.partial_fit(X, Y, **how).influence()  # type: ignore[arg-type]


def test_rows_of_values_that_look_like_classes_are_values() -> None:
    """The newest of all are kept, not of each."""
    y = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], dtype=F64)
    adapter = with_head(regression=True, head=Ridge(scale=1.0), support_head=Ridge(scale=1.0))
    task = adapter.fit(POINTS[:6], y, keep=True).partial_fit(POINTS[6:7], y[:1], forget=0.5)
    assert task.memory is not None
    assert task.memory.targets.tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert newest(task.memory, 0.5, SquaredError()).targets.tolist() == [[0, 1], [1, 0]]
    assert newest(task.memory, 0.5, CrossEntropy()).targets.tolist() == [[0, 1], [1, 0]]
    assert newest(task.memory, 0.1, CrossEntropy()).targets.tolist() == [[0, 1], [1, 0]]
    assert newest(task.memory, 0.1, SquaredError()).targets.tolist() == [[1, 0]]


def test_of_too_many_the_oldest_of_the_largest_class_goes() -> None:
    """One after another, by counting."""
    labels = torch.randint(3, (ROWS + 300,), generator=GENERATOR)
    labels[:40], labels[40:60] = 3, 4
    rows, kept = torch.arange(len(labels)), list(range(len(labels)))
    while len(kept) > ROWS:
        counts = np.bincount(labels[kept])
        kept.remove(next(row for row in kept if labels[row] == counts.argmax()))
    targets = nn.functional.one_hot(labels, 5).double()
    memory = Memory(rows[:, None].double(), rows[None, :, None].double(), targets)
    before, after = (Memory(memory.base[i], memory.columns[:, i], targets[i]) for i in rows.split(900))
    assert joined(before, after, CrossEntropy()).base[:, 0].tolist() == kept
    assert joined(before, after, SquaredError()).base[:, 0].tolist() == rows[-ROWS:].tolist()


class Power(nn.Module):
    """x to the ``power``, or its exponential."""

    def __init__(self, power: float | None) -> None:
        super().__init__()
        self.weight, self.power = nn.Parameter(torch.ones(1)), power

    def forward(self, x: Tensor) -> Tensor:
        scaled = self.weight * x
        return scaled.exp() if self.power is None else scaled**self.power


def test_what_the_network_cannot_give_teaches_nothing() -> None:
    heads = {"head": Direct(), "support_head": Direct()}
    grows, root = (FewShotAdapter.of(Power(it), regression=True, **heads) for it in (None, 0.5))
    task = grows.fit([[0.0], [1.0]], [1.0, 2.0])
    for ask in (task.partial_fit, task.surprise):
        with pytest.raises(AdaptError, match=r"NaN or infinity for x\[1\].* scale the examples"):
            ask([[0.0], [1e4]], [1.0, 2.0])
    with pytest.raises(AdaptError, match=r"statistics hold NaN, infinity, .* scale the examples"):
        grows.statistics([[0.0], [1e4]], [1.0, 2.0])
    with pytest.raises(AdaptError, match="none here that is finite"):
        root.fit([[0.0], [1.0]], [0.0, 1.0]).predict([[1.0]], return_std=True)


# ------------------------------------------------------------------------------------------ classes


def test_without_a_head_classes_are_learned_by_the_loss_that_z_was_solved_for() -> None:
    """With its sharpness: a step of Newton on what is known and the new examples, by autograd."""
    adapter = direct(3)
    adapter = adapter.replace(state=adapter.state._replace(log_sharpness=torch.tensor(1.2, dtype=F64)))
    task = adapter.fit(POINTS[:18], KINDS[:18])
    known = task.posterior
    assert known is not None
    new, truth = POINTS[18:], torch.from_numpy(KINDS[18:])

    def loss(z: Tensor) -> Tensor:
        outputs = torch.func.functional_call(
            adapter.backbone, adapter.subspace.parameters(z), (new,), strict=False
        )
        return nn.functional.cross_entropy(outputs * np.exp(1.2), truth, reduction="sum")

    gradient, curvature = torch.func.grad(loss)(task.z), torch.func.hessian(loss)(task.z)
    expected = task.z - torch.linalg.solve(known.precision + curvature, gradient)
    assert torch.allclose(task.partial_fit(new, truth).z, expected)


@pytest.mark.parametrize(
    ("classes", "labels", "every"),
    [
        (np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.3], np.float32), [0.1, 0.2, 0.3]),
        (np.array([0.1, 0.2, 0.3], np.float32), np.array([0.1, 0.2, 0.3]), None),
        (np.array([0, 1, 2]), np.array([0.0, 1, 2]), [0, 1, 2]),
        (np.array([0, 1, 2]), np.array([0.0, 1, 7]), [0, 1, 2, 7]),
        (np.array([0, 1, 2], np.uint64), np.array([0, 1, 7]), [0, 1, 2, 7]),
        (np.array([0, 1, 2]), np.array([0, 1, -1]), [-1, 0, 1, 2]),
        (np.array([0, 1, 2]), np.array([0, 1, 0.5]), [0.0, 0.5, 1.0, 2.0]),
        (np.array(["a", "b", "c"]), np.array(["a", "b", "longer"]), ["a", "b", "c", "longer"]),
        (np.array([0, 1]), np.array([False, True]), [0, 1]),
        (np.array([False, True]), np.array([0.0, 1.0]), [False, True]),
    ],
)
def test_a_label_is_the_class_that_it_is_for_predict(
    classes: np.ndarray, labels: np.ndarray, every: list[Any] | None
) -> None:
    task = with_head().fit(POINTS[:18], classes[KINDS[:18] % len(classes)], keep=True)
    found = task.partial_fit(POINTS[18:24], labels[KINDS[18:24] % len(labels)])
    assert found.classes_.tolist() == (classes.tolist() if every is None else every)
    if set(found.classes_.tolist()) == set(classes.tolist()):
        assert found.classes_.dtype == classes.dtype
        assert task.surprise(POINTS[18:24], labels[KINDS[18:24] % len(labels)]).p_value > 0


@pytest.mark.parametrize(
    ("classes", "labels", "said"),
    [
        ([0, 1, 2], [True, True], "y holds booleans, such as True, but the classes are whole numbers"),
        ([False, True], [2, 1], "y holds whole numbers, such as 2, but the classes are booleans"),
        ([0, 1], [2**63 + 1, 1], "no type holds together with the classes"),
        (["a", "b"], [0, 1], "y holds whole numbers, such as 0, but the classes are strings"),
    ],
)
def test_labels_of_another_kind_are_refused(classes: list[Any], labels: list[Any], said: str) -> None:
    task = with_head().fit(POINTS[: 4 * len(classes)], classes * 4, keep=True)
    with pytest.raises(AdaptError, match=said):
        task.partial_fit(POINTS[:2], labels)
    with pytest.raises(AdaptError, match=said):
        task.surprise(POINTS[:2], labels)


def test_a_label_that_nobody_can_learn_is_named() -> None:
    with pytest.raises(AdaptError, match=r"y\[1\] is 7, no class here: the network has no output for it"):
        direct(3).fit(POINTS, KINDS).partial_fit(POINTS[:2], [0, 7])


def test_surprise_is_the_probability_of_labels_as_improbable() -> None:
    """By counting all of them."""
    chances = np.random.default_rng(0).dirichlet([1, 1, 1], 4)
    for truth in itertools.islice(itertools.product(range(3), repeat=4), 0, 81, 7):
        likelihoods = {
            labels: float(np.prod(chances[range(4), labels]))
            for labels in itertools.product(range(3), repeat=4)
        }
        exact = sum(it for it in likelihoods.values() if it <= likelihoods[truth] * (1 + 1e-12))
        found = _of_classes(chances, list(truth), np.arange(3))
        assert found.statistic == pytest.approx(-np.log(likelihoods[truth]))
        assert found.p_value == pytest.approx(exact, abs=0.015)
    with pytest.raises(AdaptError, match="of none there is no surprise"):
        with_head().fit(POINTS, KINDS).surprise(POINTS[:0], [])


# ------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize("how", [{"level": 2}, {"level": float("nan")}, {"level": "a"}, {"forget": -0.1}])
def test_settings_are_checked(how: dict[str, Any]) -> None:
    task = with_head().fit(POINTS, KINDS, keep=True)
    with pytest.raises(AdaptError, match=next(iter(how))):
        task.partial_fit(POINTS, KINDS, **how)


def test_pairs_are_taken_as_fit_takes_them() -> None:
    task = with_head().fit(POINTS, KINDS, keep=True)
    pairs = TensorDataset(POINTS[:6], torch.from_numpy(KINDS[:6]))
    assert torch.equal(task.partial_fit(pairs).z, task.partial_fit(POINTS[:6], KINDS[:6]).z)
    assert task.surprise(pairs) == task.surprise(POINTS[:6], KINDS[:6])


@pytest.mark.parametrize("make", [with_head, lambda: direct(3)])
def test_noticing_that_nothing_has_changed_costs_no_pass(make: Any) -> None:
    task = make().fit(POINTS, KINDS, keep=True)
    network, spent = task.adapter.backbone, []
    for on_change in ("ignore", "forget"):
        before = network.calls
        task.partial_fit(POINTS[:6], KINDS[:6], on_change=on_change)
        spent.append(network.calls - before)
    assert spent[0] == spent[1] > 0


def test_after_a_change_with_one_example_of_each_class_nothing_is_known_of_z() -> None:
    adapter = with_head()
    task = adapter.fit(POINTS, (POINTS @ POINTS[0] > 0).tolist(), keep=True)
    changed = task.partial_fit(POINTS[:2], [False, False], on_change="forget", level=1.0)
    one = task.partial_fit(POINTS[:2], [False, True], on_change="forget", level=1.0)
    assert changed.memory is not None and len(changed.memory.targets) > 2  # the class that it shows none of
    assert one.posterior is not None and float(one.posterior.examples) == 0
    assert not one.z.any() and torch.equal(one.posterior.precision, torch.diag(one.posterior.prior))
    assert one.predict(POINTS[:2]).tolist() == [False, True]


def test_without_a_head_a_change_of_classes_leaves_the_latest_examples_alone() -> None:
    """z and what is kept are those of a step from the prior on them, as a fit takes it."""
    adapter = direct(3)
    task = adapter.fit(POINTS, KINDS, keep=True)
    turned = (KINDS[:9] + 1) % 3
    changed = task.partial_fit(POINTS[:9], turned, on_change="forget", level=1.0)
    alone = adapter.fit(POINTS[:9], turned, keep=True)
    assert changed.posterior is not None and float(changed.posterior.examples) == 9
    assert torch.allclose(changed.z, alone.z) and changed.influence() == pytest.approx(alone.influence())
    same = task.partial_fit(POINTS[:9], turned, on_change="forget", level=0.0)
    assert same.posterior is not None and float(same.posterior.examples) == 45


def test_fits_again_end_no_worse_than_they_began() -> None:
    """Steep losses of labels without sense: where steps do not help, z is 0, as of fit."""
    adapter, generator = with_head().replace(solver=GaussNewton()), torch.Generator().manual_seed(0)
    sharpness = torch.tensor(5.0, dtype=F64)
    weak = adapter.state._replace(log_sharpness=sharpness, log_precision=adapter.state.log_precision - 4)
    adapter = adapter.replace(state=weak)
    x = 3 * torch.randn(18, 6, generator=generator, dtype=F64)
    labels = np.random.default_rng(0).permutation(KINDS[:18])
    task = adapter.fit(x[:9], labels[:9], keep=True).partial_fit(x[9:], labels[9:])
    assert task.memory is not None and len(task.memory.targets) == 18
    model = model_of(task.memory.at, adapter.state, task.memory.targets, adapter.problem)
    start, end = (adapter.loss.value(model(z), task.memory.targets) for z in (0 * task.z, task.z))
    assert float(end) <= float(start) * (1 + 1e-6)


def test_a_task_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    adapter = with_head()
    task = adapter.fit(POINTS[:18], KINDS[:18], keep=True)
    task.save_pretrained(tmp_path)
    loaded = adapt.load(tmp_path, backbone=adapter.backbone)
    assert isinstance(loaded, FittedTask)
    assert np.array_equal(loaded.influence(), task.influence())
    labels = [*KINDS[18:30].tolist(), 9, 9]
    here, there = (it.partial_fit(POINTS[18:32], labels) for it in (task, loaded))
    assert here.classes_.tolist() == there.classes_.tolist() == [0, 1, 2, 9]
    assert np.array_equal(here.predict_proba(POINTS), there.predict_proba(POINTS))
    low = here.to(torch.float32)
    assert low.posterior is not None and low.posterior.precision.dtype == F64
    more = (low.partial_fit(POINTS[:2].float(), [9, 0]), here.partial_fit(POINTS[:2], [9, 0]))
    assert more[0].predict_proba(POINTS.float()) == pytest.approx(more[1].predict_proba(POINTS), abs=1e-4)
    replace(here, memory=None).save_pretrained(tmp_path)
    with pytest.raises(AdaptError, match="kept none"):
        adapt.load(tmp_path, backbone=adapter.backbone).partial_fit(POINTS, KINDS)


def test_without_a_head_it_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    adapter = direct(2, regression=True)
    y = POINTS[:, :2].sin()
    task = adapter.fit(POINTS[:9], y[:9], keep=True).partial_fit(POINTS[9:18], y[9:18])
    task.save_pretrained(tmp_path)
    loaded = adapt.load(tmp_path, backbone=adapter.backbone)
    assert np.array_equal(loaded.influence(), task.influence()) and len(task.influence()) == 18
    here, there = (it.partial_fit(POINTS[18:], y[18:]) for it in (task, loaded))
    for one, other in zip(
        here.predict(POINTS, return_std=True), there.predict(POINTS, return_std=True), strict=True
    ):
        assert np.array_equal(one, other)


def test_the_distribution_of_the_other_kind_is_refused() -> None:
    values = direct(1, regression=True).fit(POINTS, POINTS[:, 0]).predictive(POINTS)
    with pytest.raises(AdaptError, match="values have no probabilities"):
        _ = values.probabilities
    with pytest.raises(AdaptError, match="classes have no standard deviation"):
        _ = with_head().fit(POINTS, KINDS).predictive(POINTS).std


@pytest.mark.parametrize("make", [with_head, lambda: direct(3)])
def test_under_autocast_only_the_network_is_coarse(make: Any) -> None:
    """What is known of z, where it leads, and what is kept have all their digits."""
    adapter = make().to(torch.float32)
    x = POINTS.float()
    with torch.autocast("cpu", torch.bfloat16):
        task = adapter.fit(x[:18], KINDS[:18], keep=True).partial_fit(x[18:], KINDS[18:])
        doubt = task.influence()
        found = [task]
        if isinstance(adapter.head, Direct):
            sent = adapter.statistics(x, KINDS, classes=[0, 1, 2])
            found.append(adapter.fit_statistics([sent], classes=[0, 1, 2]))
    for it in found:
        for name, value in adapter.subspace.parameters(it.z).items():
            assert torch.equal(it.parameters[name], value)
    assert np.array_equal(doubt, task.influence())
    plain = adapter.fit(x[:18], KINDS[:18], keep=True).partial_fit(x[18:], KINDS[18:])
    assert task.z.numpy() == pytest.approx(plain.z.numpy(), abs=0.05)
