"""A regressor for scikit-learn."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils._tags import Tags

from adapt.errors import AdaptError
from adapt.sklearn.base import FewShot
from adapt.sklearn.examples import weights_of

__all__ = ["FewShotRegressor"]


class FewShotRegressor(RegressorMixin, FewShot):
    """Learns values, one or several of an example, from a few examples.

    Args and attributes are those of :class:`adapt.sklearn.FewShotClassifier`, but for classes.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(-2, 2, 20)[:, None]
        >>> FewShotRegressor(method="head").fit(x, np.sin(x[:, 0])).score(x, np.sin(x[:, 0])) > 0.9
        True
    """

    _regression = True

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from examples with their values ``y [n]`` or ``[n, outputs]``; see
        :meth:`adapt.sklearn.FewShotClassifier.fit`."""
        found, examples, y = self._read(X, y)
        values = np.asarray(y, np.float64)
        if values.ndim not in (1, 2) or not np.isfinite(values).all():
            raise AdaptError(f"y has shape {values.shape}: give every example one finite number, or a row")
        self._flat = values.ndim == 1
        weights = weights_of(sample_weight, len(values))
        self._fit(found, examples, values.reshape(len(values), -1), weights)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values, of the shape of ``y``."""
        values = self._logits(X).numpy()
        if self._start is not None and self._start.values is not None:
            values = values * self._start.values.spread + self._start.values.center
        return values[:, 0] if self._flat else values

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
