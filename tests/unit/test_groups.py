"""Whether a model does as well by all groups."""

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from scipy.stats import ttest_ind
from sklearn.metrics import accuracy_score

from adapt.compare.groups import Groups
from adapt.compare.statistics import LEVEL, wilson
from adapt.errors import AdaptError

RNG = np.random.default_rng(0)
N = 600
MEMBER = RNG.choice(["a", "b", "c"], N, p=[0.6, 0.3, 0.1])
TRUTH = RNG.choice(["no", "yes"], N)
WRONG = RNG.random(N) < np.select([MEMBER == "a", MEMBER == "b"], [0.1, 0.2], 0.5)
SAID = np.where(WRONG, np.where(TRUTH == "yes", "no", "yes"), TRUTH)


def test_scores_and_differences_are_those_of_fairlearn() -> None:
    found = Groups.of("town", MEMBER.tolist(), SAID, TRUTH, regression=False)
    frame = MetricFrame(metrics=accuracy_score, y_true=TRUTH, y_pred=SAID, sensitive_features=MEMBER)
    assert {g.name: g.score for g in found.groups} == pytest.approx(dict(frame.by_group))
    assert found.worst.name == "c" == frame.by_group.idxmin()

    def rates(of: np.ndarray) -> list[float]:
        return [float((SAID[of & (name == MEMBER)] == "yes").mean()) for name in "abc"]

    whole, yes = np.ones(N, bool), TRUTH == "yes"
    assert found.parity == pytest.approx(np.ptp(rates(whole)))
    assert found.odds == pytest.approx(max(np.ptp(rates(yes)), np.ptp(rates(~yes))))


def test_the_interval_of_a_gap_is_newcombe_s() -> None:
    """His example of table II (a): 56/70 and 48/80, whose interval is 0.0524 to 0.3339."""
    right = [1] * 56 + [0] * 14 + [1] * 48 + [0] * 32
    groups = ["first"] * 70 + ["second"] * 80
    found = Groups.of("x", groups, right, [1] * 150, regression=False)
    # Of two groups the level is halved; at 95 % it is the published one.
    ends = [(p, *wilson(p * n, n, LEVEL / 2)) for p, n in ((56 / 70, 70), (48 / 80, 80))]
    (p1, l1, u1), (p2, l2, u2) = ends
    low = p1 - p2 - np.hypot(p1 - l1, u2 - p2)
    assert found.worst.name == "second" and found.worst.gap_low == pytest.approx(low)
    (p1, l1, u1), (p2, l2, u2) = ((p, *wilson(p * n, n)) for p, n in ((56 / 70, 70), (48 / 80, 80)))
    published = (p1 - p2 - np.hypot(p1 - l1, u2 - p2), p1 - p2 + np.hypot(u1 - p1, p2 - l2))
    assert published == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_the_gate_refuses_a_group_that_is_shown_to_be_worse_and_no_other() -> None:
    found = Groups.of("town", MEMBER.tolist(), SAID, TRUTH, regression=False)
    assert [group.name for group in found.refused(0.1)] == ["c"]
    assert not found.refused(0.6)
    few = Groups.of("town", ["a"] * 91 + ["b"] * 9, [1] * 100, [1] * 91 + [0] * 9, regression=False)
    assert few.worst.gap == 1 and few.worst.gap_low is None and not few.refused(0.1)


def test_errors_of_values_by_welch() -> None:
    truth = RNG.normal(size=300)
    off = np.where(np.arange(300) < 100, 2.0, 1.0) * RNG.normal(size=300)
    groups = ["far"] * 100 + ["near"] * 200
    found = Groups.of("place", groups, truth + off, truth, regression=True)
    errors = np.abs(off)
    expected = ttest_ind(errors[:100], errors[100:], equal_var=False).confidence_interval(1 - LEVEL / 2)
    far = found.worst
    assert far.name == "far" and far.gap == pytest.approx(errors[:100].mean() - errors[100:].mean())
    assert (far.gap_low, far.gap_high) == pytest.approx(tuple(expected)) and found.parity is None


def test_round_trip_metrics_and_mistakes() -> None:
    found = Groups.of("age<=25", MEMBER.tolist(), SAID, TRUTH, regression=False)
    assert Groups.from_dict(found.to_dict()) == found
    assert found.metrics()["trust/gap_age__25"] == found.worst.gap
    assert {*found.metrics()} == {f"trust/{it}_age__25" for it in ("gap", "worst", "parity", "odds")}
    one_class = Groups.of("x", ["a", "b"] * 20, ["y", "n"] * 20, ["y", "n"] * 20, regression=False)
    assert one_class.parity == 1 and one_class.odds is None  # in a group there is no other class
    with pytest.raises(AdaptError, match="all examples are of one group by town"):
        Groups.of("town", ["a"] * 9, [1] * 9, [1] * 9, regression=False)
