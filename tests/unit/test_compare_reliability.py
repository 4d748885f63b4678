"""How far probabilities may be believed: against other libraries, closed forms and simulation."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from adapt.compare import Comparison, MethodResult
from adapt.compare.markdown import comparison_markdown
from adapt.compare.pooled import pool
from adapt.compare.reliability import BINS, Bins, Reliability


def drawn(m: int = 200, ways: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and labels that are not drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(m, ways, generator=generator), torch.randint(ways, (m,), generator=generator)


def test_numbers_are_those_of_other_libraries() -> None:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import log_loss

    logits, labels = drawn()
    p = logits.double().softmax(-1)
    found = Reliability.of(logits, labels)
    assert found.nll == pytest.approx((log_loss(labels, p, labels=range(5)),))
    truth = np.eye(5)[labels]
    assert found.brier == pytest.approx((float(np.square(p.numpy() - truth).sum(1).mean()),))
    best = p.amax(-1).numpy()
    true, stated = calibration_curve(p.argmax(-1) == labels, best, n_bins=BINS)
    counts = np.histogram(best, BINS, (0, 1))[0]
    wanted = float((counts[counts > 0] * abs(true - stated)).sum() / len(best))
    assert found.top.error == pytest.approx(wanted)


def test_classwise_error_is_that_of_all_pairs() -> None:
    logits, labels = drawn(60, 3)
    p, truth = logits.double().softmax(-1).numpy().ravel(), np.eye(3)[labels].ravel()
    bins = np.clip(np.ceil(p * BINS), 1, BINS)
    wanted = sum(abs((truth - p)[bins == b].sum()) for b in range(1, BINS + 1)) / len(p)
    assert Reliability.of(logits, labels).each.error == pytest.approx(wanted)


@pytest.mark.parametrize("m", [30, 75, 1000])
@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
def test_the_error_of_probabilities_that_are_right_is_what_simulation_gives(m: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    p = (scale * torch.randn(m, 5, generator=generator, dtype=torch.float64)).softmax(-1).amax(-1)
    errors = [Bins.of(p, torch.bernoulli(p, generator=generator)).error for _ in range(400)]
    assert Bins.of(p, p).expected_error == pytest.approx(np.mean(errors), rel=0.12)


def test_tasks_add_up() -> None:
    """Bins are those of all queries; −log p and Brier stay by task."""
    (a, ya), (b, yb) = drawn(30, seed=1), drawn(50, seed=2)
    joined = Reliability.joined([Reliability.of(a, ya), Reliability.of(b, yb)])
    whole = Reliability.of(torch.cat([a, b]), torch.cat([ya, yb]))
    assert joined.top.error == pytest.approx(whole.top.error)
    assert joined.each.expected_error == pytest.approx(whole.each.expected_error)
    assert len(joined.nll) == 2 and np.average(joined.nll, weights=[30, 50]) == pytest.approx(whole.nll[0])


def test_a_label_of_no_class_counts_as_wrong() -> None:
    logits = torch.tensor([[9.0, 0.0]])
    found = Reliability.of(logits, torch.tensor([2]))
    assert found.brier[0] == pytest.approx(1.0, abs=1e-3) and found.top.error > 0.99


def test_sureness_beyond_what_a_number_holds_stays_finite() -> None:
    found = Reliability.of(torch.tensor([[1e4, 0.0], [0.0, 1e4]]), torch.tensor([1, 1]))
    assert all(map(np.isfinite, found.metrics().values())) and found.nll[0] == pytest.approx(5e3)


def method(seed: int) -> MethodResult:
    known = Reliability.of(*drawn(seed=seed))
    return MethodResult("head", "head", (0.5,), (1.0,), 1.0, None, reliability=known)


def test_it_is_kept_with_a_comparison_and_said() -> None:
    ours = Comparison("it", {"source": "toy", "tasks": 1}, 0, "cpu", {"head": method(0)})
    read = Comparison.from_dict(json.loads(json.dumps(ours.to_dict())))
    assert read.methods["head"].reliability == ours.methods["head"].reliability
    metrics = read.method_metrics(read.methods["head"])
    assert metrics["trust/ece"] == ours.methods["head"].reliability.top.error  # type: ignore[union-attr]
    assert "## How far probabilities may be believed" in comparison_markdown(read)
    without = replace(ours, methods={"head": replace(method(0), reliability=None)})
    assert "believed" not in comparison_markdown(without)
    assert not [name for name in without.method_metrics(without.methods["head"]) if name.startswith("trust")]


def test_seeds_are_pooled() -> None:
    runs = [Comparison("it", {"source": "toy", "tasks": 1}, s, "cpu", {"head": method(s)}) for s in (0, 1)]
    found = pool(runs).methods["head"].reliability
    assert found is not None and sum(found.top.count) == 400
