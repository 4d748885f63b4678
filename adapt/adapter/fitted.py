"""A task that has been adapted to: predicts for new examples, with scikit-learn's habits."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.inputs import Examples, Labels, as_positions, as_targets
from adapt.adapter.loaders import paired
from adapt.adapter.moved import Target, moved
from adapt.adapter.r_squared import r_squared
from adapt.adapter.record import TaskRecord
from adapt.adapter.storage import save_task
from adapt.adapter.verified import check_head_state
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.precision import outside_autocast

__all__ = ["FittedTask"]


@dataclass(frozen=True, eq=False, repr=False)
class FittedTask(TaskRecord):
    """The result of :meth:`FewShotAdapter.fit`.

    Attributes:
        adapter: it came from.
        parameters: adapted tensors of the backbone, by name.
        head_state: of ``adapter.head``.
        classes_: the caller's labels ``[C]``, sorted; the order of the columns of :meth:`predict_proba`.
            Empty in regression.
        z: where the solver arrived ``[k]``.
        trace: the support loss on the way, and the cost.
        outputs: numbers that are predicted of an example, C.
    """

    def logits(self, x: Examples, *, batch_size: int | None = None) -> Tensor:
        """Head outputs ``[m, C]`` for ``x [m, *input_shape]``, on the backbone's device; in regression the
        predicted values. Of no examples there are none, ``[0, C]``.

        Args:
            batch_size: examples that go through the network at a time. None: as many as are good for speed,
                by the size of an example; what memory is needed does not grow with their number. The values
                are the same, up to rounding.

        Raises:
            AdaptError: shapes or values that cannot be used, or no such number.
        """
        found = [self._logits(examples) for examples in self.adapter.batches(x, batch_size)]
        if not found:
            return self.z.new_zeros(0, self.outputs)
        return found[0] if len(found) == 1 else torch.cat(found)

    def _logits(self, examples: Tensor) -> Tensor:
        with torch.no_grad():
            features = call(self.adapter.backbone, self.parameters, examples)
            check_head_state(self.adapter.head, self.head_state, features.shape[-1], self.outputs)
            with outside_autocast(features.device):
                return self.adapter.head.logits(self.head_state, features)

    def predict_proba(self, x: Examples, *, batch_size: int | None = None) -> np.ndarray:
        """Class probabilities ``[m, C]``, columns in the order of ``classes_``.

        Raises:
            AdaptError: in regression, which has no classes.
        """
        self._check_classes()
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

    def predict(self, x: Examples, *, batch_size: int | None = None) -> np.ndarray:
        """The most probable label of each example, ``[m]``; in regression its values ``[m, C]``."""
        outputs = self.logits(x, batch_size=batch_size)
        if self.adapter.loss.regression:
            return outputs.cpu().numpy()
        return self.classes_[outputs.argmax(-1).cpu().numpy()]

    def score(self, x: Examples, y: Labels | None = None, *, batch_size: int | None = None) -> float:
        """Accuracy (0 … 1) on examples ``x`` with true labels ``y``; in regression R², the share of the
        variance of ``y`` that is explained (1 is perfect, 0 as good as the mean; of a constant ``y``, which
        has none, 1 if it is predicted, else 0). A label that is no class of the task counts as wrong.

        Raises:
            AdaptError: no examples, a number of labels other than theirs, labels of another kind than in
                ``fit``, or none that is a class.
        """
        x, y = paired(x, y)
        outputs = self.logits(x, batch_size=batch_size)
        if not len(outputs):
            raise AdaptError("x holds no examples: of none there is no score")
        if not self.adapter.loss.regression:
            truth = as_positions(y, len(outputs), self.classes_)
            return float((outputs.argmax(-1).cpu().numpy() == truth).mean())
        predicted = outputs.cpu().numpy()
        truth = as_targets(y, len(predicted), torch.as_tensor(predicted), self.adapter.loss)[1].numpy()
        if truth.shape != predicted.shape:
            raise AdaptError(
                f"y has shape {truth.shape} but x has {len(predicted)} examples: pass one label per example"
            )
        return r_squared(truth, predicted)

    def to(self, target: Target, dtype: torch.dtype | None = None) -> FittedTask:
        """The same task on another device, in another dtype, or both: see :meth:`FewShotAdapter.to`."""
        adapter = moved(self.adapter, target, dtype)
        like = adapter.state.origin
        parameters = {name: tensor.to(like) for name, tensor in self.parameters.items()}
        trace = self.trace._replace(losses=self.trace.losses.to(like))
        return replace(
            self,
            adapter=adapter,
            parameters=parameters,
            head_state=self.head_state.to(like),
            z=self.z.to(like),
            trace=trace,
        )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the adapted task to ``folder``; ``adapt.load(folder)`` brings it back with identical
        predictions."""
        save_task(self, folder)
