"""Intervals and speed-ups against what one works out by hand."""

import math

import pytest

from adapt.compare import ACCURACY, MSE, Curve
from adapt.compare.statistics import mean_interval, paired_difference, ratio_interval


def test_mean_interval_is_1_96_standard_errors() -> None:
    mean, ci95, n = mean_interval([0.7, 0.8, 0.9])  # s = 0.1
    assert (mean, n) == (pytest.approx(0.8), 3)
    assert ci95 == pytest.approx(1.96 * 0.1 / math.sqrt(3))


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5]])
def test_no_spread_no_interval(values: list[float]) -> None:
    assert mean_interval(values) == (0.5, 0.0, len(values))


def test_paired_difference_ignores_how_hard_the_tasks_are() -> None:
    hard = [0.1, 0.9, 0.4, 0.6]
    better = [accuracy + gain for accuracy, gain in zip(hard, [0.02, 0.04, 0.02, 0.04], strict=True)]
    mean, ci95, n = paired_difference(better, hard)
    assert (mean, n) == (pytest.approx(0.03), 4)
    assert ci95 == pytest.approx(1.96 * math.sqrt(4 / 3) * 0.01 / 2)  # s² = 4·0.01²/3, √n = 2


def test_paired_difference_uses_the_tasks_that_both_ran() -> None:
    assert paired_difference([0.5, 0.7, 0.0], [0.4, 0.5]) == paired_difference([0.5, 0.7], [0.4, 0.5])


def test_speedup_is_the_median_of_paired_ratios() -> None:
    speedup = ratio_interval([10.0, 40.0, 300.0, 9.0], [1.0, 2.0, 3.0])  # ratios 10, 20, 100
    assert (speedup.ratio, speedup.n, speedup.bound) == (20.0, 3, False)
    assert (speedup.low, speedup.high) == (10.0, 100.0)  # a median of three is often an end
    assert str(speedup) == "20×"


def test_equal_ratios_have_no_interval_and_a_resample_is_repeatable() -> None:
    assert ratio_interval([2.0, 4.0], [1.0, 2.0])[:3] == (2.0, 2.0, 2.0)
    times = [1.0, 3.0, 2.0, 7.0, 5.0]
    assert ratio_interval(times, [1.0] * 5) == ratio_interval(times, [1.0] * 5)


def test_speedup_with_tasks_never_reached_is_a_lower_bound() -> None:
    speedup = ratio_interval([10.0, 10.0], [1.0, 1.0], never=1)
    assert speedup.bound
    assert str(speedup) == "≥ 10×"


def test_first_reach_takes_the_first_look_at_or_above_the_target() -> None:
    curve = Curve((1.0, 2.0, 3.0, 4.0), (0.5, 0.8, 0.7, 0.9))
    assert [curve.first_reach(target, ACCURACY) for target in (0.0, 0.8, 0.85, 0.95)] == [1.0, 2.0, 4.0, None]


def test_first_reach_of_an_error_takes_the_first_look_at_or_below_the_target() -> None:
    curve = Curve((1.0, 2.0, 3.0, 4.0), (0.5, 0.2, 0.3, 0.1))
    assert [curve.first_reach(target, MSE) for target in (1.0, 0.2, 0.15, 0.05)] == [1.0, 2.0, 4.0, None]
