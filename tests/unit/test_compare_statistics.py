"""Intervals, tests and speed-ups against scipy, what one works out by hand, and simulation."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from adapt.compare import ACCURACY, MSE, Curve
from adapt.compare.statistics import (
    difference_of,
    estimate,
    holm,
    mean_interval,
    median_interval,
    paired_difference,
    ratio_interval,
)
from adapt.errors import AdaptError

# ----------------------------------------------------------------------------------------------- Student's t


@pytest.mark.parametrize("n", [2, 3, 5, 20, 600])
def test_a_mean_has_the_interval_and_the_p_value_of_student_s_t(n: int) -> None:
    values = np.random.default_rng(n).normal(0.1, 0.3, n)
    expected = scipy.stats.ttest_1samp(values, 0.0)
    low, high = expected.confidence_interval(0.95)
    found = estimate(values)
    mean, ci95, count = found.interval
    assert ci95 is not None
    assert (mean - ci95, mean + ci95, count) == (pytest.approx(low), pytest.approx(high), n)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.below(0.2) == pytest.approx(scipy.stats.ttest_1samp(values, 0.2, alternative="less").pvalue)


def test_three_values_by_hand() -> None:
    mean, ci95, n = mean_interval([0.7, 0.8, 0.9])  # s = 0.1, t of 2 degrees of freedom
    assert (mean, n) == (pytest.approx(0.8), 3)
    assert ci95 == pytest.approx(4.30265273 * 0.1 / math.sqrt(3))


@pytest.mark.parametrize("n", [2, 5, 20])
def test_intervals_hold_the_true_mean_and_equal_methods_are_called_so_95_times_in_100(n: int) -> None:
    drawn = np.random.default_rng(0).normal(0.8, 0.1, (4000, n))
    found = [estimate(row) for row in drawn]
    inside = [abs(one.mean - 0.8) <= (one.interval.ci95 or 0) for one in found]
    alarms = [difference_of(row, np.full(n, 0.8)).p <= 0.05 for row in drawn]
    # 1.96 standard errors would hold it 70, 88 and 93 times
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.01)


def test_one_value_has_no_interval_and_shows_nothing() -> None:
    found = estimate([0.5])
    assert (found.interval, found.p) == ((0.5, None, 1), 1.0)
    assert ACCURACY.text(found.interval) == "50.0" and MSE.text(found.interval) == "0.500"


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf, 1.0]])
def test_what_is_no_number_is_refused(values: Sequence[float]) -> None:
    with pytest.raises(AdaptError, match=r"no values|not finite"):
        estimate(values)


# ----------------------------------------------------------------------------------------- equal differences


def test_identical_predictions_differ_in_nothing() -> None:
    scores = [0.8, 0.6, 0.9] * 20
    assert difference_of(scores, scores).p == 1.0
    assert paired_difference(scores, scores) == (0.0, 0.0, 60)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 20])
def test_one_and_the_same_difference_is_tested_by_its_signs(n: int) -> None:
    """The t test would divide by zero; of n fair signs all are the same once in 2ⁿ⁻¹ times."""
    hard = np.random.default_rng(0).random(n)
    found = difference_of(hard + 0.1, hard)
    expected = scipy.stats.binomtest(n, n, 0.5).pvalue
    assert found.p == pytest.approx(expected)
    assert found.interval.ci95 == 0.0
    assert found.below(0.2) == pytest.approx(expected / 2)
    assert found.below(0.0) == pytest.approx(1 - expected / 2)


# ----------------------------------------------------------------------------------------------------- pairs


def test_paired_difference_ignores_how_hard_the_tasks_are() -> None:
    hard = [0.1, 0.9, 0.4, 0.6]
    better = [accuracy + gain for accuracy, gain in zip(hard, [0.02, 0.04, 0.02, 0.04], strict=True)]
    mean, ci95, n = paired_difference(better, hard)
    assert (mean, n) == (pytest.approx(0.03), 4)
    assert ci95 == pytest.approx(3.18244631 * math.sqrt(4 / 3) * 0.01 / 2)  # s² = 4·0.01²/3, √n = 2


def test_paired_difference_uses_the_tasks_that_both_ran() -> None:
    assert paired_difference([0.5, 0.7, 0.0], [0.4, 0.5]) == paired_difference([0.5, 0.7], [0.4, 0.5])


# ------------------------------------------------------------------------------------------------------ Holm


@pytest.mark.parametrize(
    ("chances", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.001, 0.02, 0.02, 0.9], [0.004, 0.06, 0.06, 0.9]),
        ([0.4, 0.5, 0.6], [1.0, 1.0, 1.0]),
    ],
)
def test_holm_by_hand(chances: list[float], adjusted: list[float]) -> None:
    assert holm(chances) == pytest.approx(adjusted)


def test_holm_calls_one_of_ten_equal_methods_different_at_most_once_in_twenty_tables() -> None:
    rng, alarms = np.random.default_rng(0), []
    for _ in range(1000):
        scores = rng.normal(size=(10, 12)) + rng.normal(size=12)
        alarms.append(min(holm([difference_of(scores[0], other).p for other in scores[1:]])) <= 0.05)
    assert 0.015 < np.mean(alarms) < 0.065


# ------------------------------------------------------------------------------------------------- speed-ups


def test_a_median_of_many_lies_between_order_statistics() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 21.0))
    # of 20 fair coins at most 5 are heads with 2.07 %, at most 6 with 5.8 %: the 6th from either side
    assert median_interval(values) == (10.5, 6.0, 15.0)
    assert median_interval(range(1, 7)) == (3.5, 1.0, 6.0)


@pytest.mark.parametrize("n", [2, 5, 6, 9, 40])
def test_the_interval_of_a_median_holds_it(n: int) -> None:
    drawn = np.exp(np.random.default_rng(1).normal(0.0, 0.5, (3000, n)))
    found = [median_interval(row) for row in drawn]
    inside = np.mean([one is not None and one[1] <= 1.0 <= one[2] for one in found])
    assert 0.94 <= inside <= (0.965 if n == 2 else 0.99)


def test_speedup_is_the_median_of_paired_ratios() -> None:
    speedup = ratio_interval([10.0, 40.0, 300.0, 9.0], [1.0, 2.0, 3.0])  # ratios 10, 20, 100
    assert (speedup.ratio, speedup.n, speedup.bound) == (20.0, 3, False)
    logs = np.log([10, 20, 100])
    expected = scipy.stats.t.interval(0.95, 2, logs.mean(), logs.std(ddof=1) / math.sqrt(3))
    assert speedup.ends == pytest.approx(np.exp(expected))
    assert str(speedup) == "20×"


def test_equal_ratios_have_no_width_and_one_has_no_interval() -> None:
    assert ratio_interval([2.0, 4.0], [1.0, 2.0])[:3] == pytest.approx((2.0, 2.0, 2.0))
    alone = ratio_interval([2.0], [1.0])
    assert (alone[:4], alone.ends, alone.between()) == ((2.0, None, None, 1), None, "")
    assert alone.times(3.0)[:3] == (6.0, None, None)


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
