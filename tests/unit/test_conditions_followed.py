"""Adapting a classifier whose head stays: the loss by autograd, and clusters that have moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import adapt
from adapt import AdaptError
from adapt.adapter import FewShotAdapter, FittedTask, Matching, initial_state
from adapt.adapter.conditions import _halves
from adapt.adapter.source import Source
from adapt.backbones import FrozenBatchNorm
from adapt.forward.estimators import Reverse
from adapt.heads import Logistic
from adapt.inner import CrossEntropy, Descent, GaussNewton, SemiSupervised
from adapt.spaces import film

CENTRES = torch.tensor([[3.0, 0.0], [-2.0, 2.0], [-1.0, -3.0]])


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    st.integers(2, 5),
    st.integers(0, 4),
    st.integers(2, 9),
    st.floats(0, 3),
    st.floats(0, 3),
    st.none() | st.floats(0.1, 1),
    st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_gradient_is_that_of_the_value(
    classes: int, features: int, n: int, diversity: float, statistics: float, margin: float | None, seed: int
) -> None:
    loss = SemiSupervised(diversity, statistics, margin, classes)
    outputs = 3 * randn(n, classes + features, seed=seed)
    for targets in (outputs[:, :0], labelled(n, classes, seed % (n + 1))):
        outputs.requires_grad_()
        (gradient,) = torch.autograd.grad(loss.value(outputs, targets), outputs)
        torch.testing.assert_close(loss.gradient(outputs, targets).detach(), gradient)


def labelled(n: int, classes: int, number: int) -> Tensor:
    """Rows of the classes in turn, ``number`` of them known."""
    targets = torch.eye(classes, dtype=torch.float64)[torch.arange(n) % classes]
    targets[number:] = 0
    return targets


def test_labelled_and_unlabelled_examples_add_up() -> None:
    loss, outputs, targets = SemiSupervised(0.7), randn(9, 3), labelled(9, 3, 4)
    columns = randn(2, 9, 3, seed=1)
    known, entropy = CrossEntropy(), outputs[4:, :0]
    parts = known.values(outputs[:4], targets[:4]), loss.values(outputs[4:], entropy)
    torch.testing.assert_close(loss.values(outputs, targets), torch.cat(parts))
    torch.testing.assert_close(loss.gradient(outputs, targets)[:4], known.gradient(outputs, targets)[:4])
    torch.testing.assert_close(loss.gradient(outputs, targets)[4:], loss.gradient(outputs[4:], entropy))
    torch.testing.assert_close(loss.curvature(outputs, columns), known.curvature(outputs, columns))


def test_parts_of_the_value() -> None:
    sure = torch.eye(3).repeat(4, 1) * 60
    assert SemiSupervised(0.0).value(sure, sure[:, :0]).item() == pytest.approx(0, abs=1e-6)
    assert SemiSupervised(1.0).value(sure, sure[:, :0]).item() == pytest.approx(-12 * np.log(3), rel=1e-6)
    one = torch.cat([sure[:1].expand(12, 3), torch.full((12, 2), 2.0)], 1)
    assert SemiSupervised(1.0, 0.0, classes=3).value(one, one[:, :0]).item() == pytest.approx(0, abs=1e-6)
    assert SemiSupervised(1.0, 0.5, classes=3).value(one, one[:, :0]).item() == pytest.approx(
        12 * 0.5 * 0.5 * 4, rel=1e-6
    )


def test_curvature_is_the_models_own_and_exact_for_the_statistics() -> None:
    loss, outputs, columns = SemiSupervised(1.0, 2.0, classes=3), randn(6, 5), randn(4, 6, 5, seed=1)
    found = loss.curvature(outputs, columns)
    p = outputs[:, :3].softmax(-1)
    fisher = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(found[..., :3], torch.einsum("ncd,knd->knc", fisher, columns[..., :3]))
    hessian = torch.autograd.functional.hessian(
        lambda f: 6 * 2 / (2 * 2) * f.mean(0).square().sum(), outputs[:, 3:]
    )
    torch.testing.assert_close(found[..., 3:], torch.einsum("ncmd,kmd->knc", hessian, columns[..., 3:]))


def clusters(n: int, seed: int) -> tuple[Tensor, np.ndarray]:
    y = np.arange(n) % 3
    return CENTRES[y] + 0.7 * randn(n, 2, seed=seed).float(), np.array(["a", "b", "c"])[y]


@pytest.fixture
def task() -> FittedTask:
    network = nn.Sequential(FrozenBatchNorm(2))
    space = film(network)
    state = initial_state(space.initial.clone(), 0.3 * torch.eye(space.size))
    adapter = FewShotAdapter(network, space, state, GaussNewton(steps=0), Logistic(0.01))
    return adapter.fit(*clusters(60, 1))


def dimmed(x: Tensor) -> Tensor:
    return 0.4 * x + torch.tensor([1.2, 0.4])


def right(task: FittedTask, x: Tensor, y: np.ndarray) -> float:
    return float(np.mean(task.predict(x) == y))


@pytest.mark.parametrize("match", [None, Matching(), Matching(1.0, 0.0)])
@pytest.mark.parametrize("known", [False, True])
def test_clusters_that_have_moved_are_found_again(
    match: Matching | None, known: bool, task: FittedTask
) -> None:
    (x, _), (new, y) = clusters(60, 2), clusters(300, 3)
    source = clusters(60, 1)[0] if known else None
    before, found = right(task, dimmed(new), y), task.fit(dimmed(x), source=source, match=match)
    after = right(found, dimmed(new), y)
    assert right(task, new, y) > 0.95 and before < 0.8
    assert after > before + 0.1 and after > 0.9 - 0.1 * (not known and match is None)
    assert found.trace.choice.startswith("under other conditions: held-out loss without labels ")
    assert torch.equal(found.head_state, task.head_state) and found.classes_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("match", [None, Matching()])
def test_a_few_labels_find_what_no_label_can(match: Matching | None, task: FittedTask) -> None:
    """Upside down, two clusters lie where the other one was: an unlabelled fit is sure, and wrong."""
    turned = torch.tensor([1.0, -1.0])
    (x, y), (new, truth) = clusters(36, 2), clusters(300, 3)
    free, few = task.fit(turned * x, match=match), task.fit(turned * x, y, match=match)
    assert right(few, turned * new, truth) > 0.9 > 0.6 > right(free, turned * new, truth)
    assert few.trace.choice.startswith("under other conditions: held-out loss ") and torch.equal(
        few.head_state, task.head_state
    )


def test_further_examples_without_labels_help_a_few_with(task: FittedTask) -> None:
    (x, y), (more, _), (new, truth) = clusters(4, 2), clusters(60, 4), clusters(300, 3)
    few = right(task.fit(dimmed(x), y), dimmed(new), truth)
    both = task.fit(dimmed(x), y, unlabelled=dimmed(more))
    assert right(both, dimmed(new), truth) >= few
    batches = torch.utils.data.DataLoader(list(zip(dimmed(x), y, strict=True)), batch_size=3)
    torch.testing.assert_close(task.fit(batches, unlabelled=dimmed(more)).z, both.z)
    unnamed = torch.utils.data.DataLoader(dimmed(more), batch_size=16)  # type: ignore[arg-type]
    torch.testing.assert_close(task.fit(unnamed).z, task.fit(dimmed(more)).z)


def test_none_of_a_kind_is_as_if_it_were_not_there(task: FittedTask) -> None:
    (x, y), (more, _) = clusters(8, 2), clusters(12, 4)
    torch.testing.assert_close(task.fit(x, y, unlabelled=more[:0]).z, task.fit(x, y).z)
    torch.testing.assert_close(task.fit(x[:0], y[:0], unlabelled=more).z, task.fit(more).z)


def test_where_nothing_has_changed_little_does(task: FittedTask) -> None:
    (x, _), (new, y) = clusters(60, 2), clusters(300, 3)
    assert right(task.fit(x, match=Matching()), new, y) > right(task, new, y) - 0.02


@pytest.mark.parametrize("known", [0, 12, 24])
def test_the_order_of_examples_says_nothing(known: int, task: FittedTask) -> None:
    """Two classes by turns, as one writes ``["a", "b"] * 12``, sorted, and as they come."""
    x, y = clusters(36, 2)
    x, y = dimmed(x[y != "c"]), y[y != "c"]
    new, truth = clusters(300, 3)
    drawn = torch.randperm(24, generator=torch.Generator().manual_seed(1)).tolist()
    for order in (list(range(24)), np.argsort(y, kind="stable").tolist(), drawn):
        named, rest = [i for i in order if i < known], [i for i in order if i >= known]
        found = task.fit(x[named], y[named], unlabelled=x[rest]) if named else task.fit(x[rest])
        assert found.trace.choice.startswith("under other conditions: held-out loss")
        assert right(found, dimmed(new), truth) > right(task, dimmed(new), truth)


def test_halves_hold_every_class_alike() -> None:
    for classes, order in ((2, torch.arange(24)), (2, torch.randperm(24)), (5, torch.arange(24))):
        targets = torch.eye(classes)[order % classes]
        targets[order >= 16] = 0
        one, other = _halves(targets)
        assert sorted([*one.tolist(), *other.tolist()]) == list(range(24)) and len(one) == len(other)
        assert (targets[one].sum(0) - targets[other].sum(0)).abs().max() <= 1


def test_half_of_the_examples_must_help_the_other(task: FittedTask) -> None:
    """Rows of two unlike kinds by turns: what the first ask for is wrong for the second."""
    x = clusters(40, 2)[0]
    x[1::2] = -6 * x[1::2] - 9
    wild = Descent("sgd", lr=30.0, steps=1, gradient=Reverse())
    kept = task.fit(x, solver=wild)
    assert kept.trace.choice.startswith("not adapted: what half") and torch.equal(kept.z, task.z)
    assert torch.equal(kept.logits(x), task.logits(x)) and kept.trace.forward_equivalents > 0


def test_cost_is_two_fits_and_three_passes(task: FittedTask) -> None:
    found = task.fit(dimmed(clusters(40, 2)[0]), match=Matching(), solver=GaussNewton(steps=2))
    assert found.trace.forward_equivalents == pytest.approx(2 * (2 * (1 + 5) + 1) + 3)


def test_saved_and_loaded(task: FittedTask, tmp_path: Path) -> None:
    x = dimmed(clusters(60, 2)[0])
    found = task.fit(x, match=Matching())
    found.save_pretrained(tmp_path)
    again = adapt.load(tmp_path, task.adapter.backbone)
    assert torch.equal(again.logits(x), found.logits(x))
    assert len(again.fit(x).z) == len(found.z)


def test_too_few_to_divide_change_nothing_unless_nobody_asks(task: FittedTask) -> None:
    x = dimmed(clusters(3, 2)[0])
    assert task.fit(x).trace.choice.startswith("not adapted: fewer") and torch.equal(task.fit(x).z, task.z)
    assert not torch.equal(task.fit(x, checked=False).z, task.z)
    assert task.fit(x, checked=False).trace.forward_equivalents == 3 * (1 + len(task.z))


def test_what_cannot_be_done_says_so(task: FittedTask) -> None:
    with pytest.raises(AdaptError, match="x holds no examples"):
        task.fit(torch.zeros(0, 2))
    values = adapt.load("mlp_sinusoid").fit(torch.tensor([[0.0], [0.5]]), [0.0, 0.5])
    with pytest.raises(AdaptError, match="values have no classes that stay"):
        values.fit(torch.zeros(5, 1))
    with pytest.raises(AdaptError, match=r"y\[1\] is 'd', no class here: the classes of a task stay"):
        task.fit(clusters(2, 2)[0], ["a", "d"])
    with pytest.raises(AdaptError, match="one label per example"):
        task.fit(clusters(3, 2)[0], ["a", "b"])
    x, other = clusters(9, 2)[0], clusters(9, 3)[0]
    for wrong, why in (
        ({"loss": CrossEntropy()}, r"loss is a CrossEntropy: give an adapt\.inner\.SemiSupervised"),
        ({"match": "norms"}, r"match is 'norms': give an adapt\.adapter\.Matching"),
        ({"solver": 5}, "solver is 5, which is no solver"),
        ({"source": other[:3]}, "source: of 3 examples nothing is known"),
        ({"source": Source(torch.zeros(5), torch.ones(5), {})}, "source is of 5 features"),
        (
            {"source": Source(torch.zeros(2), torch.ones(2), {"norm.bias": torch.zeros(2)})},
            r"source has 2 means of 'norm\.bias', which here follows 0: make it with task\.source",
        ),
    ):
        with pytest.raises(AdaptError, match=why):
            task.fit(x, **wrong)  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match=r"loss\.diversity"):
        task.fit(clusters(9, 2)[0], loss=SemiSupervised(diversity=-1.0))
