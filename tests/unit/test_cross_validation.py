"""Cross-validation on a support set: the rule of choice, and folds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt.heads import one_hot
from adapt.inner import CrossEntropy, SquaredError
from adapt.inner.cross_validation import Candidate, folds_of
from adapt.inner.cross_validation import choose as best_of

F64 = torch.float64


def candidates(*scores: list[float]) -> list[Candidate]:
    rows = [torch.tensor(row, dtype=F64) for row in scores]
    return [
        Candidate(k, "linearised", 1.0, row, torch.zeros(k), torch.zeros(k, k)) for k, row in enumerate(rows)
    ]


def test_one_standard_error_by_hand() -> None:
    """Differences 1, 1, 1, 3 have mean 1.5 and standard deviation 1, so standard error ½; 0, 0, 0, 4 have
    mean 1, deviation 2 and standard error 1."""
    low = [1.0, 1.0, 1.0, 1.0]
    assert best_of(candidates([2.0, 2.0, 2.0, 4.0], low)) == 1  # 1.5 > ½
    assert best_of(candidates([1.0, 1.0, 1.0, 5.0], low)) == 0  # 1 ≤ 1: the cheaper one
    assert best_of(candidates([1.0, 1.0, 1.0, 5.1], low)) == 0
    assert best_of(candidates(low, low)) == 0
    assert best_of(candidates([9.0, 9.0, 9.0, 9.1], [2.0, 2.0, 2.0, 2.0], [1.9, 2.1, 1.9, 2.0])) == 1
    assert best_of(candidates(low, [0.0, 0.0, 0.0, 0.0])) == 1  # a sure win, however small


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_never_wins(bad: float) -> None:
    fine = [1.0, 1.0, 1.0, 1.0]
    assert best_of(candidates(fine, [bad, 0.0, 0.0, 0.0])) == 0
    assert best_of(candidates([bad, 9.0, 9.0, 9.0], fine)) == 1
    assert best_of(candidates([9.0, 9.1, 9.0, 9.0], [bad] * 4, fine)) == 2
    assert best_of(candidates([9.0, 9.1, 9.0, 9.0], [bad, 0.0, 0.0, 0.0], fine)) == 2
    assert best_of(candidates([bad] * 4, [bad] * 4)) == 0


# ------------------------------------------------------------------------------------------ folds


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(3, 9), min_size=2, max_size=4), folds=st.integers(2, 6), data=st.data())
def test_folds_are_stratified_for_any_order_and_counts(
    counts: list[int], folds: int, data: st.DataObject
) -> None:
    labels = data.draw(st.permutations([c for c, count in enumerate(counts) for _ in range(count)]))
    targets = one_hot(torch.tensor(labels), len(counts), F64)
    keep = folds_of(targets, folds, CrossEntropy())
    assert keep.shape == (folds, len(labels)) and keep.dtype == F64
    assert ((1 - keep).sum(0) == 1).all(), "every example is held out once"
    held = (1 - keep) @ targets  # [folds, C]
    assert (held.max(0).values - held.min(0).values <= 1).all()
    assert (keep @ targets >= 1).all(), "every class can be fitted in every fold"


def test_folds_of_values_take_turns() -> None:
    keep = folds_of(torch.zeros(5, 1), 2, SquaredError())
    assert keep.tolist() == [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]
