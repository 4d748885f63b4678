"""Errors that lie decades apart are compared by their ratios."""

from __future__ import annotations

import numpy as np
import pytest

from adapt.adapter import Role
from adapt.compare import MSE, Comparison, MethodResult
from adapt.compare.verdict import verdict


def regression(*methods: MethodResult) -> Comparison:
    task = {"source": "sinusoid", "shots": 10, "queries": 100, "tasks": 8}
    return Comparison("toy", task, 0, "cpu", {method.name: method for method in methods}, metric=MSE)


def decades(name: str, role: Role, *errors: float, seconds: float = 0.1) -> MethodResult:
    return MethodResult(name, role, errors, (seconds,) * len(errors), 12.3, 4.5)


def test_errors_that_lie_decades_apart_are_tested_by_their_ratios() -> None:
    """scipy's paired t test of the logarithms; that of the errors themselves sees one large one."""
    from scipy.stats import ttest_rel

    small = [3e-6, 9e-7, 2e-5, 4e-6, 1e-6, 7e-6, 2e-6, 5e-6]
    large = [0.02, 0.9, 0.004, 0.3, 0.01, 0.05, 0.002, 0.1]
    ours, other = decades("forward", "forward", *small), decades("tuned", "finetune", *large, seconds=0.01)
    found = regression(ours, other)
    expected = ttest_rel(np.log(small), np.log(large)).pvalue
    assert found.p(ours, other) == pytest.approx(expected, rel=1e-6) and expected < 1e-4
    assert ttest_rel(small, large).pvalue > 0.05
    assert found.better(ours, other) and not found.better(other, ours)
    assert found.times_the_error(other, ours) == pytest.approx(
        np.exp(np.mean(np.log(np.divide(large, small))))
    )
    assert verdict(found).startswith("Use forward: ")


def test_what_is_lower_in_most_tasks_and_much_higher_in_one_is_not_better() -> None:
    steady, wild = [1.0] * 8, [0.1, 0.2, 0.1, 0.15, 0.1, 0.2, 0.1, 50.0]
    one, other = decades("forward", "forward", *steady), decades("tuned", "finetune", *wild)
    found = regression(one, other)
    assert not found.better(other, one) and not found.better(one, other)
    perfect = decades("exact", "rival", *[0.0] * 8)
    assert regression(one, perfect).better(perfect, one)
