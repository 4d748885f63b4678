"""A classifier for scikit-learn."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from adapt.errors import AdaptError
from adapt.sklearn.base import FewShot
from adapt.sklearn.examples import weights_of

__all__ = ["FewShotClassifier"]


class FewShotClassifier(ClassifierMixin, FewShot):
    """Learns classes from a few examples of each, of a table, of texts or of pictures.

    Args:
        backbone: what reads examples: the name of a network, such as ``"minilm"`` for texts, as it is; an
            ``nn.Module``, which stays as it is; or a :class:`adapt.FewShotAdapter`, whose ``fit`` this is
            then. None: of a table its columns, standardised, or waves over them, whichever predicts held-out
            rows better; of texts and of pictures the best network there is, from its start if it has one.
        method: ``head``: a convex head on the network as it is or at its start; ``forward``: moved by forward
            gradients; ``backprop``: by backpropagation; ``auto``: whichever held-out examples speak for.
        l2: strength of the regularisation of the head; None: held-out examples choose.
        seconds: what trying other methods may take, for ``auto``; what is chosen then depends on the speed of
            the machine. None: they are tried on a part of the examples.
        batch_size: examples that go through the network at a time when predicting; None: by their size.
        random_state: of the division into parts; None: always the same one.

    Attributes:
        classes_: labels, sorted.
        task_: the :class:`adapt.FittedTask`. Of a table it takes standardised columns.
        method_: what was chosen.
        l2_: likewise (not with an adapter).
        start_: what :meth:`meta_fit` learned.
        n_features_in_, feature_names_in_: of what has columns.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True)
        >>> FewShotClassifier(method="head").fit(x[::5], y[::5]).score(x, y) > 0.9
        True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from labelled examples.

        Args:
            X: a table of numbers ``[n, columns]``, n texts, pictures ``[n, C, H, W]`` or a list of Pillow
                images, or what the backbone takes.
            y: n labels, two classes or more.
            sample_weight: how much each example counts ``[n]``: an example of weight 2 is two examples. Heads
                heed any weights from 0 on; methods that move the network, and adapters, whole ones.

        Raises:
            ValueError: what cannot be used (:class:`adapt.AdaptError`, or scikit-learn's own error).
        """
        found, examples, y = self._read(X, y)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        self.classes_, positions = np.unique(labels, return_inverse=True)
        weights = weights_of(sample_weight, len(labels))
        there = np.unique(positions if weights is None else positions[weights > 0])
        if len(there) < 2:
            raise AdaptError(
                f"y holds only one class, {self.classes_[there].tolist()[0]!r}: two or more are needed to "
                "tell apart" + ("" if weights is None else " (examples of weight 0 do not count)")
            )
        self.classes_ = self.classes_[there]
        # A column of objects holds strings, or numbers: those of weight 0 may be of no class that is left.
        names = np.array(self.classes_.tolist()) if self.classes_.dtype == object else self.classes_
        places = np.searchsorted(there, positions).clip(max=len(there) - 1)
        self._fit(found, examples, names[places], weights)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits ``[m, C]``; of two classes how much more the second one has than the first, ``[m]``."""
        logits = self._logits(X).numpy()
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each example ``[m]``."""
        places = self._logits(X).numpy().argmax(1)
        return self.classes_[places]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities ``[m, C]``, in the order of ``classes_``."""
        return self._logits(X).softmax(-1).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Their logarithms, finite where a probability is too small to be written."""
        return self._logits(X).log_softmax(-1).numpy()
