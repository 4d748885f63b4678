"""Models of scikit-learn on the inputs as they are: what one fits to a table without any network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.method import Predictor, Support
from adapt.errors import AdaptError

__all__ = ["columns_of", "fitted"]


def columns_of(x: Tensor, method: str) -> np.ndarray:
    """Examples as rows of numbers ``[n, D]``, float64.

    Raises:
        AdaptError: token ids, which are no quantities.
    """
    if not x.is_floating_point():
        raise AdaptError(
            f"{method} reads columns of numbers, and these are token ids: leave it out of method="
        )
    return x.detach().flatten(1).double().cpu().numpy()


def fitted(model: Any, support: Support, method: str) -> Predictor:
    """``model`` fitted to the support; it predicts log-probabilities ``[m, C]``, or values ``[m,
    outputs]``."""
    x, y = columns_of(support.x, method), support.y.detach().cpu().numpy()
    device = support.x.device
    if support.regression:
        model.fit(x, y[:, 0] if y.shape[1] == 1 else y)

        def values(query: Tensor) -> Tensor:
            found = model.predict(columns_of(query, method)).reshape(len(query), -1)
            return torch.as_tensor(found, dtype=support.y.dtype, device=device)

        return values
    model.fit(x, y)

    def logits(query: Tensor) -> Tensor:
        found = np.full((len(query), support.ways), -np.inf)
        with np.errstate(divide="ignore"):
            found[:, model.classes_] = np.log(model.predict_proba(columns_of(query, method)))
        least = np.finfo(np.float32).tiny
        return torch.as_tensor(np.maximum(found, np.log(least)), dtype=torch.float32, device=device)

    return logits
