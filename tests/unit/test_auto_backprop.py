"""The solver that chooses may give way to backpropagation: where it must, where it must not, what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt import AdaptError
from adapt.adapter import FewShotAdapter, initial_state
from adapt.adapter.rival import _folds, _is_better
from adapt.heads import Logistic
from adapt.inner import Auto, CrossEntropy, SquaredError
from adapt.inner.cross_validation import folds_of
from adapt.spaces import full
from tests.helpers import make_adapter, tiny_conv4

RIVAL = Auto(backprop_steps=20, backprop_lr=0.2)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def second(n: int, seed: int = 1) -> tuple[Tensor, list[str]]:
    """Points ``[n, 2]`` whose class is the sign of the second coordinate, clear of the border."""
    x = randn(n, 2, seed=seed)
    x = x + 0.3 * x.sign()
    return x, ["up" if b > 0 else "down" for _, b in x.tolist()]


@pytest.fixture
def narrow() -> FewShotAdapter:
    """Four hidden units that see one coordinate, and two directions that leave it so."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 4), nn.Tanh())
    with torch.no_grad():
        network[0].weight[:, 1] = 0
    space = full(network)
    basis = torch.zeros(space.size, 2)
    basis[0, 0] = basis[2, 1] = 0.1  # weights of the first coordinate
    return FewShotAdapter(network, space, initial_state(space.initial.clone(), basis), RIVAL, Logistic(0.01))


def accuracy(task: adapt.FittedTask, seed: int = 2) -> float:
    x, y = second(200, seed)
    return float(np.mean(task.predict(x) == np.array(y)))


def test_it_is_taken_where_what_helps_lies_in_no_direction(narrow: FewShotAdapter) -> None:
    x, y = second(40)
    chosen, before = narrow.fit(x, y), narrow.replace(solver=RIVAL.alone).fit(x, y)
    assert accuracy(before) < 0.7 < 0.9 < accuracy(chosen)
    assert len(chosen.z) == narrow.space.size == 12 and chosen.adapter.calibration is None
    said = chosen.trace.choice
    assert (
        said.startswith("backpropagation through 12 numbers: held-out loss ") and before.trace.choice in said
    )
    assert f"would have cost {before.trace.forward_equivalents:.3g} passes in place of 60" in said
    assert chosen.classes_.tolist() == ["down", "up"]


def test_cost_counts_all_that_was_tried(narrow: FewShotAdapter) -> None:
    x, y = second(40)
    chosen, before = narrow.fit(x, y), narrow.replace(solver=RIVAL.alone).fit(x, y)
    total, alone = chosen.trace.forward_equivalents, before.trace.forward_equivalents
    # The rival once on all and once in two halves, 60 passes each; two halves of ours, and the held-out.
    assert 60 + 60 + alone + 2 < total <= 60 + 60 + 2 * alone + 2 + 3


def test_where_it_gains_nothing_all_is_as_without(narrow: FewShotAdapter) -> None:
    torch.manual_seed(3)
    x, y = randn(24, 2, seed=5), ["a", "b"] * 12  # labels without meaning
    kept, alone = narrow.fit(x, y), narrow.replace(solver=RIVAL.alone).fit(x, y)
    assert torch.equal(kept.z, alone.z) and torch.equal(kept.head_state, alone.head_state)
    assert kept.trace.choice.startswith(alone.trace.choice)
    assert "backpropagation was not better by more than its standard error" in kept.trace.choice
    assert kept.trace.forward_equivalents > alone.trace.forward_equivalents


def test_values(narrow: FewShotAdapter) -> None:
    network = nn.Linear(3, 1)
    space = full(network)
    basis = torch.zeros(space.size, 1)
    basis[0] = 1
    adapter = FewShotAdapter(
        network, space, initial_state(space.initial.clone(), basis), RIVAL, loss=SquaredError(),
        head=adapt.heads.Direct(), support_head=adapt.heads.Direct(),
    )  # fmt: skip
    x = randn(20, 3)
    truth = torch.tensor([[0.3], [2.0], [-1.0]])
    within = network(x).detach() + 0.3 * x[:, :1] + 0.3 * randn(20, 1, seed=4)
    inside, outside = adapter.fit(x, within), adapter.fit(x, x @ truth)
    assert len(inside.z) == 1 and len(outside.z) == 4
    error = outside.predict(x) - (x @ truth).numpy()
    assert np.mean(error**2) < 0.1 * float((x @ truth).var())


def of_use(seed: int) -> FewShotAdapter:
    """Three hidden units that see all coordinates but the second, which is what two directions are of."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 3), nn.Tanh())
    with torch.no_grad():
        network[0].weight[:, 1] = 0
    space = full(network)
    basis = torch.zeros(space.size, 2)
    basis[1, 0] = basis[7, 1] = 1
    state = initial_state(space.initial.clone(), basis)
    return FewShotAdapter(network, space, state, Auto(backprop_steps=5, backprop_lr=0.05), Logistic(0.01))


@pytest.mark.parametrize("shots", [3, 5])
def test_where_the_directions_are_the_answer_few_examples_do_not_hide_it(shots: int) -> None:
    """Without a third of a class nothing would move forward in a fold, and the head alone be compared."""
    taken, moved = 0, 0
    for seed in range(6):
        x, y = randn(2 * shots, 6, seed=seed), torch.arange(2 * shots) % 2
        x[:, 1] = (2 * y - 1) * (0.3 + x[:, 1].abs())
        task = of_use(seed).fit(x, y)
        taken += len(task.z) != 2
        moved += bool(task.z.any())
    assert moved >= 5 and taken <= 1


@pytest.mark.parametrize("needed", [2, 3])
@pytest.mark.parametrize("counts", [(2, 9), (3, 3), (4, 5), (5, 5), (6, 40), (7, 7), (13, 8)])
def test_folds_leave_what_adapting_needs_of_every_class(counts: tuple[int, int], needed: int) -> None:
    targets = torch.cat(
        [torch.tensor([[1.0, 0.0], [0.0, 1.0]])[c].repeat(n, 1) for c, n in enumerate(counts)]
    )
    masks = _folds(targets, CrossEntropy(), needed)
    if masks is None:
        assert min(counts) <= needed
        return
    assert (~masks).sum(0).eq(1).all()  # each example is held out once
    left = masks.to(targets) @ targets
    assert left.min() >= needed
    fewer = folds_of(targets, len(masks) - 1, CrossEntropy()) @ targets if len(masks) > 2 else None
    assert fewer is None or fewer.min() < needed


@pytest.mark.parametrize(("shots", "folds"), [(2, 0), (3, 3), (4, 2)])
def test_every_fold_leaves_two_examples_of_a_class(
    shots: int, folds: int, narrow: FewShotAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fit = FewShotAdapter.fit

    def counted(self: FewShotAdapter, x: Tensor, y: Tensor, **more: bool) -> adapt.FittedTask:
        seen.append(len(x))
        return fit(self, x, y, **more)

    monkeypatch.setattr(FewShotAdapter, "fit", counted)
    narrow.fit(randn(2 * shots, 2), ["a", "b"] * shots)
    inner = seen[1:][: 2 * folds]
    assert len(inner) == 2 * folds and all(n >= 4 for n in inner)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("theirs", "ours", "better"),
    [
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], True),  # 1 ± 0.58
        ([1.0, 1.0, 1.0], [0.5, 2.0, 1.0], False),  # 0.17 ± 0.44
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False),
        ([1.0, 1.0, 1.0], [0.5, INF, 0.5], True),
        ([1.0, 1.0, 1.0], [0.5, NAN, 0.5], True),
        ([1.0, NAN, 1.0], [9.0, 9.0, 9.0], False),
        ([1.0, INF, 1.0], [9.0, INF, 9.0], False),
    ],
)
def test_who_is_better_by_hand(theirs: list[float], ours: list[float], better: bool) -> None:
    assert _is_better(torch.tensor(theirs), torch.tensor(ours)) is better


def test_what_it_lacks_is_said_with_a_way_out(narrow: FewShotAdapter) -> None:
    x, y = second(40)
    task = narrow.fit(x, y, keep=True)
    assert len(task.z) == 12
    assert task.influence().shape == (40,)  # which the head alone can say
    for ask in (lambda: task.partial_fit(x, y), lambda: task.surprise(x, y)):
        with pytest.raises(AdaptError, match=r"no posterior \(backpropagation .*Auto\(backprop_steps=0\)"):
            ask()


def test_without_autograd_it_is_not_tried(narrow: FewShotAdapter) -> None:
    x, y = second(40)
    with torch.inference_mode():
        task = narrow.fit(x, y)
    assert len(task.z) == 2 and "backpropagation" not in task.trace.choice


def test_both_are_saved_and_loaded(tmp_path: Path) -> None:
    backbone = tiny_conv4()
    adapter = make_adapter(backbone).replace(solver=replace(RIVAL, backprop_steps=2))
    adapter.save_pretrained(tmp_path / "adapter")
    assert adapt.load(tmp_path / "adapter", backbone).solver == adapter.solver
    x = torch.rand(12, *adapter.input_shape or ())
    task = adapter.fit(x, ["a", "b", "c"] * 4)
    task.save_pretrained(tmp_path / "task")
    again = adapt.load(tmp_path / "task", backbone)
    assert np.array_equal(again.predict_proba(x), task.predict_proba(x))


@pytest.mark.parametrize("setting", [{"backprop_steps": -1}, {"backprop_lr": 0.0}])
def test_settings_are_checked(setting: dict[str, float]) -> None:
    with pytest.raises(AdaptError, match=next(iter(setting))):
        Auto(**setting)  # type: ignore[arg-type]
