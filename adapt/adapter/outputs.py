"""What a fitted task puts out for examples: outputs, probabilities, labels, and which may be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.conformal import Fit, p_values, prediction_sets, tempered_probabilities
from adapt.adapter.inputs import Examples
from adapt.adapter.record import TaskRecord
from adapt.adapter.uncertainty import Predictive, predictive_of
from adapt.adapter.verified import check_head_state
from adapt.backbones import call, settled
from adapt.errors import AdaptError
from adapt.heads import is_transductive
from adapt.precision import outside_autocast

__all__ = ["Outputs"]


@dataclass(frozen=True, eq=False, repr=False)
class Outputs(TaskRecord):
    """The part of :class:`adapt.FittedTask` that only looks at it."""

    def logits(self, x: Examples, *, batch_size: int | None = None) -> Tensor:
        """Head outputs ``[m, C]`` for ``x [m, *input_shape]``, on the backbone's device; in regression the
        predicted values. Of no examples there are none, ``[0, C]``. With a transductive head they depend on
        which examples ``x`` holds, and not on how many go through the network at a time.

        Args:
            batch_size: examples that go through the network at a time. None: as many as are good for speed,
                by the size of an example; what memory is needed does not grow with their number. The values
                are the same, up to rounding.

        Raises:
            AdaptError: shapes or values that cannot be used, or no such number.
        """
        parts = map(self._features, self.adapter.batches(x, batch_size))
        if is_transductive(self.adapter.head):
            seen = [*parts]
            return self._outputs(torch.cat(seen)) if seen else self.z.new_zeros(0, self.outputs)
        found = [*map(self._outputs, parts)]
        if not found:
            return self.z.new_zeros(0, self.outputs)
        return found[0] if len(found) == 1 else torch.cat(found)

    def _features(self, examples: Tensor) -> Tensor:
        with torch.no_grad():
            backbone = self.adapter.backbone
            return call(backbone, settled(backbone, self.parameters, self), examples)

    def _outputs(self, features: Tensor) -> Tensor:
        check_head_state(self.adapter.head, self.head_state, features.shape[-1], self.outputs)
        with torch.no_grad(), outside_autocast(features.device):
            return self.adapter.head.logits(self.head_state, features)

    def predict_proba(
        self,
        x: Examples,
        *,
        average: bool = False,
        tempered: bool = False,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Class probabilities ``[m, C]``, columns in the order of ``classes_``.

        Args:
            average: over what is not known of z, at the cost of :meth:`predictive`, and with the temperature
                of the adapter's calibration, if it has one.
            tempered: as sure as the task's own examples make it, each held out: with the temperature of
                :mod:`adapt.adapter.temperature`.

        Raises:
            AdaptError: in regression, which has no classes; ``average`` without a posterior; ``tempered`` as
                :meth:`predict_set`, or both.
        """
        self._check_classes()
        if average and tempered:
            raise AdaptError("average has a temperature of its own: leave tempered=True out")
        if tempered:
            return tempered_probabilities(self, self.logits(x, batch_size=batch_size))
        if average:
            return self.predictive(x, batch_size=batch_size).probabilities
        return self.logits(x, batch_size=batch_size).softmax(-1).cpu().numpy()

    def predict_log_proba(self, x: Examples, *, batch_size: int | None = None) -> np.ndarray:
        """Logarithms of :meth:`predict_proba`, finite where a probability is too small to be written.

        Raises:
            AdaptError: in regression, which has no classes.
        """
        self._check_classes()
        return self.logits(x, batch_size=batch_size).log_softmax(-1).cpu().numpy()

    def _check_classes(self) -> None:
        if self.adapter.loss.regression:
            raise AdaptError("a regression task has no classes: use predict, which returns values")

    def predict_set(self, x: Examples, *, coverage: float = 0.9, batch_size: int | None = None) -> np.ndarray:
        """Which labels each example may have, ``[m, C]`` of bools in the order of ``classes_``: the right one
        is among them for about a share ``coverage`` of examples. None of them may be, and of few examples
        all (:mod:`adapt.adapter.conformal`).

        Raises:
            AdaptError: in regression; a task that was fitted without ``keep=True``, or with a single example
                of some class.

        """
        return prediction_sets(self, self.logits(x, batch_size=batch_size), coverage)

    def belongs(self, x: Examples, *, fit: Fit = "distance", batch_size: int | None = None) -> np.ndarray:
        """The chance that an example of the task's classes fits them no better than each of ``x``, a p-value
        ``[m]``: small where it is of none of them. ``fit`` says how well one fits: by its largest
        ``probability``, the ``energy`` of its logits, or its ``distance`` to the nearest class
        (:mod:`adapt.adapter.conformal`).

        Raises:
            AdaptError: as :meth:`predict_set`.
        """
        return self._fits(x, fit, batch_size)[0]

    def _fits(self, x: Examples, fit: Fit, batch_size: int | None) -> tuple[np.ndarray, Tensor]:
        """Of :meth:`belongs` and :meth:`logits`, which have the features in common."""
        parts = [*map(self._features, self.adapter.batches(x, batch_size))]
        if not parts:
            return np.zeros(0), self.z.new_zeros(0, self.outputs)
        features = torch.cat(parts)
        outputs = self._outputs(features)
        return p_values(self, features, outputs, fit), outputs

    def labelled(self, outputs: Tensor) -> np.ndarray:
        """What :meth:`predict` makes of ``outputs [m, C]``."""
        if self.adapter.loss.regression:
            return outputs.cpu().numpy()
        found: np.ndarray = self.classes_[outputs.argmax(-1).cpu().numpy()]
        return found

    def predictive(self, x: Examples, *, batch_size: int | None = None) -> Predictive:
        """The distribution of the outputs for ``x [m, *input_shape]``: its mean, and how much of its variance
        more examples would take away; one pass with a tangent for each direction, (1 + k) in all.

        Raises:
            AdaptError: a task without a posterior; says why it has none.

        Example:
            >>> import adapt, torch
            >>> task = adapt.load("mlp_sinusoid").fit(torch.tensor([[0.0], [0.5]]), [0.0, 0.5])
            >>> near, far = task.predictive(torch.tensor([[0.2], [4.0]])).std.ravel()
            >>> bool(near < far)
            True
        """
        return predictive_of(self, x, batch_size)
