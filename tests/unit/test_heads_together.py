"""Heads that predict examples together: their optimality conditions, their marks, and what they refuse."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import adapt
from adapt.adapter import Context, Forward
from adapt.baselines import HeadOnly
from adapt.compare import Comparison, compare
from adapt.compare.markdown import comparison_markdown
from adapt.errors import AdaptError
from adapt.heads import (
    HEADS,
    TIM,
    LaplacianShot,
    Logistic,
    OptimalTransport,
    Prototype,
    is_transductive,
    one_hot,
)
from adapt.heads.together import means_of, scores, seen
from tasks.distribution import Distribution
from tests.conformance.tables import F64, randn
from tests.helpers import make_adapter, make_source, tiny_conv4

TOGETHER = {name: kind() for name, kind in HEADS.items() if is_transductive(kind)}
Y = one_hot(torch.arange(9) % 3, 3, F64)


def features(seed: int, n: int, spread: float = 1.0) -> Tensor:
    """Of three classes in turn, around three centres."""
    return 2 * randn(3, 8, seed=1)[torch.arange(n) % 3] + spread * randn(n, 8, seed=seed)


def test_what_sees_all_says_so() -> None:
    assert set(TOGETHER) == {"laplacian_shot", "optimal_transport", "tim"}
    assert not is_transductive(Prototype()) and not is_transductive(None)


@pytest.mark.parametrize("name", TOGETHER)
def test_order_of_what_is_predicted_does_not_matter_and_company_does(name: str) -> None:
    head, q = TOGETHER[name], features(3, 12)
    state = head.fit(features(2, 9), Y)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    together = head.logits(state, q)
    assert (head.logits(state, q[order]) - together[order]).abs().max() <= 1e-9
    assert (head.logits(state, q[:4]) - together[:4]).abs().max() > 1e-3


@pytest.mark.parametrize("name", TOGETHER)
def test_many_unlabelled_examples_help_one_labelled_one(name: str) -> None:
    """Classes that keep apart, of which the support set shows one odd example each: over tasks the head is
    right more often than the nearest class mean, which sees each query alone."""
    ours, theirs = 0.0, 0.0
    for seed in range(12):
        x, q = features(10 + seed, 3, spread=2.5), features(50 + seed, 60, spread=0.8)
        y, truth = one_hot(torch.arange(3), 3, F64), torch.arange(60) % 3
        head, alone = TOGETHER[name], Prototype()
        ours += float((head.logits(head.fit(x, y), q).argmax(1) == truth).double().mean())
        theirs += float((alone.logits(alone.fit(x, y), q).argmax(1) == truth).double().mean())
    assert ours > theirs


def test_optimal_transport_is_optimal() -> None:
    """Rows add up to 1, classes to m/C, and log P differs from the scores by a term of the row and one of the
    class: then P is the minimum, which is unique (Cuturi 2013, lemma 2)."""
    head = OptimalTransport(steps=0, unknown=0.0, temperature=0.5)
    state, q = head.fit(features(2, 9), Y), features(3, 12)
    log_p = head.logits(state, q)
    both = seen(state, q, head.power)
    left = log_p - scores(both.q, means_of(both), head.temperature)
    assert torch.allclose(log_p.exp().sum(1), torch.ones(12, dtype=F64))
    assert torch.allclose(log_p.exp().sum(0), torch.full((3,), 4.0, dtype=F64), atol=1e-4)
    centred = left - left.mean(0) - left.mean(1, keepdim=True) + left.mean()
    assert centred.abs().max() <= 1e-9


def test_optimal_transport_without_known_frequencies_is_the_nearest_mean() -> None:
    head = OptimalTransport(steps=0, unknown=1e9)
    state, q = head.fit(features(2, 9), Y), features(3, 12)
    both = seen(state, q, head.power)
    alone = scores(both.q, means_of(both), head.temperature).log_softmax(-1)
    assert (head.logits(state, q) - alone).abs().max() <= 1e-6


def test_a_step_of_tim_goes_up_its_objective() -> None:
    """w + τ ∂/∂w (ρ Σ y log p + n/m Σ r log p) / (what weighs on it), the derivative by autograd."""
    head = TIM(steps=1, support=0.7, sure=0.3)
    state, q = head.fit(features(2, 9), Y), features(3, 12)
    both, rho = seen(state, q, head.power), 0.7 / 1.3
    w = means_of(both).requires_grad_(True)
    log_p, log_s = (scores(rows, w, head.temperature).log_softmax(-1) for rows in (both.q, both.s))
    r = (log_p.exp() ** 1.3 / (log_p.exp() ** 1.3).sum(0).sqrt()).detach()
    r = r / r.sum(1, keepdim=True)
    (gradient,) = torch.autograd.grad(rho * (Y * log_s).sum() + 9 / 12 * (r * log_p).sum(), w)
    weighs = rho * Y.sum(0) + 9 / 12 * r.sum(0)
    after = w.detach() + head.temperature * gradient / weighs[:, None]
    expected = scores(both.q, after, head.temperature).log_softmax(-1)
    assert (head.logits(state, q) - expected).abs().max() <= 1e-9


def test_laplacian_shot_lowers_its_objective() -> None:
    state, q = LaplacianShot().fit(features(2, 9), Y), features(3, 12)
    both = seen(state, q, 0.5)
    first = scores(both.q, means_of(both), 0.1).softmax(-1)
    costs = -scores(both.q, means_of(both, first), 0.1)
    near = LaplacianShot()._near(both.q)
    assert near is not None and torch.equal(near, near.T) and near.diagonal().sum() == 0

    def objective(steps: int) -> float:
        y = LaplacianShot(steps=steps).logits(state, q).exp()
        pull = LaplacianShot().pull
        return float((costs * y).sum() - pull / 2 * (y * (near @ y)).sum() + torch.xlogy(y, y).sum())

    values = [objective(steps) for steps in (1, 2, 5, 20, 60)]
    assert all(after <= before + 1e-12 for before, after in pairwise(values)) and values[-1] < values[0]


def test_parts_of_a_batch_are_predicted_together() -> None:
    x, q = torch.rand(6, 1, 32, 32), torch.rand(10, 1, 32, 32)
    task = adapt.load("conv4_glyphs_film").replace(head=OptimalTransport()).fit(x, [0, 1, 2] * 2)
    whole = task.logits(q)
    assert (task.logits(q, batch_size=3) - whole).abs().max() <= 1e-4
    assert (task.logits(q[:3]) - whole[:3]).abs().max() > 1e-3


def test_what_needs_each_example_alone_is_refused() -> None:
    x, y = torch.rand(6, 1, 32, 32), [0, 1, 2] * 2
    adapter = adapt.load("conv4_glyphs_film").replace(head=TIM())
    task = adapter.fit(x, y, keep=True)
    for refused in (
        lambda: task.predictive(x),
        lambda: task.surprise(x, y),
        lambda: task.partial_fit(x, y),
        lambda: task.influence(),
        lambda: task.fit(x),
        lambda: adapter.replace(support_head=TIM()),
    ):
        with pytest.raises(AdaptError, match="together"):
            refused()
    with pytest.raises(AdaptError, match="together"):
        task.predict_proba(x, average=True)


def test_a_saved_one_is_the_same_and_its_card_says_it(tmp_path: Path) -> None:
    x, q = torch.rand(6, 1, 32, 32), torch.rand(5, 1, 32, 32)
    task = adapt.load("conv4_glyphs_film").replace(head=LaplacianShot()).fit(x, [0, 1, 2] * 2)
    task.save_pretrained(tmp_path / "task")
    assert torch.equal(adapt.load(tmp_path / "task").logits(q), task.logits(q))
    assert "transductive" in (tmp_path / "task" / "README.md").read_text(encoding="utf-8")


def test_a_comparison_marks_it_and_holds_ours_against_what_sees_one_at_a_time() -> None:
    backbone = tiny_conv4()
    methods = {
        "forward": Forward(head=Logistic()),
        "head_together": HeadOnly(OptimalTransport()),
        "head_logistic": HeadOnly(Logistic()),
    }
    result = compare(
        methods, Distribution(make_source(), 3, 2, 4), Context(backbone, make_adapter(backbone)),
        experiment="together", task={"source": "made", "ways": 3, "shots": 2}, tasks=2,
        device=torch.device("cpu"),
    )  # fmt: skip
    again = Comparison.from_dict(result.to_dict())
    assert [method.transductive for method in again.methods.values()] == [False, True, False]
    assert again.best_head is not None and again.best_head.name == "head_logistic"
    assert "head_together (transductive)" in comparison_markdown(again)
