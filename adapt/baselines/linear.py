"""A linear model of the inputs as they are: logistic regression, or ridge regression where numbers are
predicted.

    W = argmin Σ_i CE(y_i, Wᵀ x_i) + ‖W‖² / 2C ,    W = argmin Σ_i ‖y_i − Wᵀ x_i‖² + ‖W‖² / C

Hastie, Tibshirani, Friedman (2009), *The Elements of Statistical Learning*, sections 4.4 and 3.4.1;
scikit-learn's ``LogisticRegression`` and ``Ridge``, with an intercept that is not penalised. No network takes
part.
"""

from dataclasses import dataclass

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.backbones.libraries import require
from adapt.baselines._columns import columns_of, fitted
from adapt.checks import STEPS, check_settings, least, optional, positive

__all__ = ["LinearModel"]


@dataclass(frozen=True)
class LinearModel:
    """``c`` is the inverse strength of the penalty, ``steps`` the most iterations of the solver."""

    c: float = 1.0
    steps: int = 1000
    max_tasks: int | None = None
    role: Role = "rival"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self, "linear", c=positive(), steps=least(1, ceiling=STEPS), max_tasks=optional(least(1))
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        models = require("sklearn.linear_model")

        def adapt(support: Support, watch: Watch) -> Predictor:
            columns_of(support.x[:1], "linear")
            if support.regression:
                return fitted(models.Ridge(alpha=1 / self.c), support, "linear")
            return fitted(models.LogisticRegression(C=self.c, max_iter=self.steps), support, "linear")

        return adapt
