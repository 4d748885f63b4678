"""What the estimators for classes and for values share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.errors import AdaptError
from adapt.forward.estimators import Reverse
from adapt.heads import Ridge
from adapt.inner import Descent, GaussNewton
from adapt.own_data.choose import choose, repeats
from adapt.own_data.networks import Network
from adapt.own_data.trial import METHODS, adapter_for
from adapt.sklearn.examples import (
    Scale,
    as_array,
    distinct,
    numeric_table,
    read_others,
    read_table,
    take,
)
from adapt.sklearn.networks import network_of
from adapt.sklearn.start import Start, start_of

__all__ = ["FewShot"]

#: What reads examples: a network, an adapter, or nothing, if they are rows of a table.
Found = Network | FewShotAdapter | None


class FewShot(BaseEstimator):
    """See :class:`adapt.sklearn.FewShotClassifier`."""

    _regression = False
    _scale: Scale | None
    _start: Start | None = None

    def __init__(
        self,
        backbone: Any = None,
        method: str = "auto",
        *,
        l2: float | None = None,
        seconds: float | None = None,
        batch_size: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.l2 = l2
        self.seconds = seconds
        self.batch_size = batch_size
        self.random_state = random_state

    def meta_fit(self, tasks: Any, validation: Any = None, **settings: Any) -> Self:
        """Learn from many tasks how to adapt to a new one; later fits, and those of clones, start from there.

        Args:
            tasks: a list of pairs (X, y), one for each task; or a distribution of tasks.
            validation: of the same kind; None: a part of ``tasks`` is held back.
            settings: of :func:`adapt.meta_train`, such as ``steps``; its seed is ``random_state``.

        Raises:
            AdaptError: tasks that cannot be used, or that the network cannot read.
        """
        self._check()
        if not hasattr(tasks, "episode") and not (isinstance(tasks, Sequence) and len(tasks)):
            raise AdaptError("tasks: pass a list of pairs (X, y), one for each, or a distribution of tasks")
        first = tasks.episode(0).support_x if hasattr(tasks, "episode") else tasks[0][0]
        found = network_of(self.backbone, first)
        if isinstance(found, FewShotAdapter):
            self._check_adapter(found)
        options = {"seed": self._seed(), **settings}
        self._start = start_of(found, tasks, validation, self._regression, self.l2, options)
        self.start_ = self._start.adapter
        return self

    # ------------------------------------------------------------------------- scikit-learn's protocols

    def __sklearn_clone__(self) -> Self:
        """A copy that is not fitted. Networks, which nothing ever changes, and what :meth:`meta_fit` learned
        are shared."""
        copied = type(self)(**self.get_params(deep=False))
        for name in ("start_", "_start", "_metadata_request", "_sklearn_output_config"):
            if name in vars(self):
                setattr(copied, name, vars(self)[name])
        return copied

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "task_")

    # ------------------------------------------------------------------------------------------ fitting

    def _read(self, x: Any, y: Any) -> tuple[Found, Any, Any]:
        """What reads the examples, the examples, and the targets, by scikit-learn's rules."""
        self._check()
        if y is None:
            raise AdaptError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        found = network_of(self.backbone, x) if self._start is None else self._start.adapter
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        if found is None or (self._start is not None and self._start.columns is not None):
            return found, *read_table(self, x, y, reset=True, values=self._regression)
        if numeric_table(x):
            more = {"dtype": "numeric", "multi_output": self._regression}
            return found, *validate_data(self, as_array(x), as_array(y), **more)
        if len(x) != len(y):
            raise AdaptError(f"X holds {len(x)} examples but y {len(y)}: give each one target")
        return found, x, np.asarray(as_array(y))

    def _fit(self, found: Found, x: Any, labels: np.ndarray, weights: np.ndarray | None) -> None:
        """Sets ``task_`` and ``method_``.

        Args:
            found: what reads the examples.
            x: as it was passed, or a table that was read.
            labels: of classes ``[n]``, or values ``[n, C]``.
            weights: of examples ``[n]``.
        """
        if isinstance(found, FewShotAdapter):
            self._fit_adapter(found, x, labels, weights)
            return
        if found is not None:
            x = read_others(x, adapter_for(found, "head", Ridge(), False))
        rows, counts = distinct(x, labels, weights)
        if len(rows) < 2:
            raise AdaptError(f"n_samples = {len(rows)}, of those that differ: give two or more")
        given = None if (counts == 1).all() else counts
        self._scale = Scale.of(x[rows], given) if found is None else None
        chosen = choose(
            take(x, rows) if self._scale is None else self._scale.apply(x[rows]),
            labels[rows],
            found,
            regression=self._regression,
            method=self.method,
            l2=self.l2,
            seconds=self.seconds,
            seed=self._seed(),
            weights=given,
        )
        self.task_ = chosen.task
        self.method_ = chosen.method
        self.l2_ = chosen.l2

    def _fit_adapter(
        self, adapter: FewShotAdapter, x: Any, labels: np.ndarray, weights: np.ndarray | None
    ) -> None:
        """The fit of an adapter itself."""
        self._check_adapter(adapter)
        rows = repeats(weights, len(labels))
        if rows is None:
            raise AdaptError(
                "sample_weight: an adapter learns from every example alike, so that weights must be whole "
                "numbers, and not large"
            )
        if self.method == "head":
            adapter = adapter.replace(solver=GaussNewton(steps=0))
        elif self.method == "backprop":
            adapter = adapter.replace(solver=Descent("adam", lr=0.003, steps=3, gradient=Reverse()))
        self._scale = None
        if self._start is not None:
            self._scale = self._start.columns
            x, labels = self._start.examples(x), self._start.targets(labels)
        if weights is not None:
            x, labels = take(read_others(x, adapter), rows), labels[rows]
        self.task_ = adapter.fit(x, labels)
        self.method_ = "forward" if self.method == "auto" else self.method

    def _check_adapter(self, adapter: FewShotAdapter) -> None:
        if adapter.loss.regression != self._regression:
            kind, other = ("values", "Regressor") if adapter.loss.regression else ("classes", "Classifier")
            raise AdaptError(f"the adapter is for {kind}: use FewShot{other}")
        if self.l2 is not None and self._start is None:
            raise AdaptError(f"l2={self.l2}: an adapter brings its head, use adapter.replace(head=…)")

    def _check(self) -> None:
        if self.method not in METHODS:
            raise AdaptError(f"method={self.method!r} is unknown: use one of {', '.join(METHODS)}")
        for name in ("l2", "seconds"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float | np.number) and 0 < value < np.inf):
                raise AdaptError(f"{name}={value!r}: give a number above 0, or None")

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    # --------------------------------------------------------------------------------------- predicting

    def _logits(self, x: Any) -> Tensor:
        """Outputs ``[m, C]``, float64."""
        check_is_fitted(self)
        if self._scale is not None:
            x = self._scale.apply(read_table(self, x, reset=False))
        elif hasattr(self, "n_features_in_") and numeric_table(x):
            x = validate_data(self, as_array(x), reset=False, dtype="numeric")
        return self.task_.logits(x, batch_size=self.batch_size).double().cpu()
