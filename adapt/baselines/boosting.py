"""Gradient boosting of trees on the inputs as they are: the usual rival on tables.

    F_0 = const ,   F_t = F_{t−1} + lr · tree_t ,   tree_t fitted to −∂ℓ/∂F(x_i) at F_{t−1}

Friedman (2001), *Greedy function approximation: a gradient boosting machine*, algorithm 1, with histograms as
in Ke et al. (2017), *LightGBM*; scikit-learn's ``HistGradientBoosting``. No network takes part, and nothing
is pretrained.
"""

from dataclasses import dataclass

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Watch
from adapt.backbones.libraries import require
from adapt.baselines._columns import columns_of, fitted
from adapt.checks import STEPS, check_settings, least, optional, positive

__all__ = ["Boosting"]


@dataclass(frozen=True)
class Boosting:
    """``trees`` of up to ``leaves`` leaves of at least ``leaf`` examples, at rate ``lr``."""

    trees: int = 100
    lr: float = 0.1
    leaves: int = 31
    leaf: int = 5
    max_tasks: int | None = None
    role: Role = "rival"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "boosting",
            trees=least(1, ceiling=STEPS),
            lr=positive(),
            leaves=least(2, ceiling=STEPS),
            leaf=least(1),
            max_tasks=optional(least(1)),
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        ensemble = require("sklearn.ensemble")

        def adapt(support: Support, watch: Watch) -> Predictor:
            columns_of(support.x[:1], "boosting")
            kind = "Regressor" if support.regression else "Classifier"
            model = getattr(ensemble, f"HistGradientBoosting{kind}")(
                max_iter=self.trees,
                learning_rate=self.lr,
                max_leaf_nodes=self.leaves,
                min_samples_leaf=self.leaf,
                early_stopping=False,
                random_state=context.seed,
            )
            if support.regression and support.y.shape[1] > 1:
                model = require("sklearn.multioutput").MultiOutputRegressor(model)
            return fitted(model, support, "boosting")

        return adapt
