"""The estimators keep scikit-learn's own rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from adapt.sklearn import FewShotClassifier, FewShotRegressor

#: Checks that do not pass, and why. One is skipped by scikit-learn itself: array API inputs, which need
#: SCIPY_ARRAY_API to be set before scipy is imported.
FAILED: dict[str, str] = {}
#: All of them with what is quick; those that what is chosen by itself could break also with that.
QUICK = [FewShotClassifier(method="head", l2=0.01), FewShotRegressor()]
CHOOSING = (
    "check_estimators_pickle",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_sample_weight_equivalence_on_dense_data",
)


@parametrize_with_checks(QUICK, expected_failed_checks=lambda estimator: FAILED)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_rules_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.parametrize(
    ("method", "name"), [("auto", name) for name in CHOOSING] + [("forward", CHOOSING[2])]
)
def test_rules_where_something_is_chosen_or_moved(method: str, name: str) -> None:
    getattr(estimator_checks, name)("FewShotClassifier", FewShotClassifier(method=method))


@pytest.mark.parametrize("method", ["forward", "backprop"])
def test_weights_of_a_regression_that_moves(method: str) -> None:
    regressor = FewShotRegressor(method=method)
    estimator_checks.check_sample_weight_equivalence_on_dense_data("FewShotRegressor", regressor)
