"""What a search says of the trials that it chose among."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from adapt.app.sweeps.tuning.report import summary
from adapt.app.sweeps.tuning.result import Tuning
from adapt.app.sweeps.tuning.search import Choices, Search
from adapt.app.sweeps.tuning.study import Trial
from adapt.compare import ACCURACY
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval

SEARCH = Search({"forward": {"method.forward.k": Choices((2, 4))}}, trials=2, tasks=20)


def trial(number: int, scores: np.ndarray, examples: Examples | None) -> Trial:
    found = mean_interval(scores, examples, shares=True)
    params = {"method.forward.k": 2 + 2 * number}
    return Trial("forward", number, params, not number, tuple(scores.tolist()), found.ci95, 0.1)


def tuning(examples: Examples | None, n: int = 20) -> Tuning:
    rng = np.random.default_rng(0)
    own, better = rng.integers(4, 8, n) / 10, rng.integers(6, 10, n) / 10
    trials = {"forward": [trial(0, own, examples), trial(1, better, examples)]}
    return Tuning("toy", SEARCH, ACCURACY, "20 tasks", "digest", trials, {}, examples)


def test_the_difference_to_the_config_s_own_setting_is_paired_and_by_student_s_t() -> None:
    found = tuning(None)
    own, best = found.trials["forward"]
    low, high = scipy.stats.ttest_rel(best.scores, own.scores).confidence_interval(0.95)
    (row,) = found.rows()[1]
    assert row[2] == f"+{50 * (low + high):.2f} ± {50 * (high - low):.2f}"
    low, high = scipy.stats.ttest_1samp(best.scores, 0).confidence_interval(0.95)
    assert best.ci95 == pytest.approx((high - low) / 2)


def test_validation_tasks_of_the_same_few_examples_count_once() -> None:
    same = Examples(((0, 1),) * 20, ((2, 3, 4, 5),) * 20, (None,) * 20)
    found = tuning(same)
    (row,) = found.rows()[1]
    assert "±" not in row[1] and "±" not in row[2]
    assert "1 support set and 1 query set of 6 examples in 20 tasks: less evidence" in summary(found)


def test_a_training_run_has_one_score_and_no_interval() -> None:
    only = Trial("forward", 0, {}, True, (0.8,), None, 3.0)
    found = Tuning("toy", SEARCH, ACCURACY, "its own", "digest", {"forward": [only]}, {})
    assert found.rows()[1][0][1] == "80.0"


@pytest.mark.parametrize(
    ("costs", "chosen"),
    [
        ((9.0, 4.0, 7.0), 1),
        ((4.0, 4.0, 4.0), 0),
        ((None, 4.0, None), 1),
        ((None, None, None), 0),
        ((math.nan, math.inf, 5.0), 2),
        ((0.0, 4.0, 4.0), 0),
    ],
)
@pytest.mark.parametrize("seconds", [(1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (math.nan, 1.0, math.nan)])
def test_no_clock_decides_between_equal_scores(
    costs: tuple[float | None, ...], chosen: int, seconds: tuple[float, ...]
) -> None:
    trials = [
        Trial("forward", number, {}, not number, (0.5, 0.75), 0.1, time, cost=cost)
        for number, (cost, time) in enumerate(zip(costs, seconds, strict=True))
    ]
    worse = Trial("forward", 3, {}, False, (0.5, 0.5), 0.1, 0.0, cost=0.0)
    found = Tuning("toy", SEARCH, ACCURACY, "2 tasks", "digest", {"forward": [*trials, worse]}, {})
    assert found.best("forward") is trials[chosen]
