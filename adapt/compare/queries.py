"""A large test set goes through a method's network some examples at a time: memory stays flat."""

from __future__ import annotations

import torch
from torch import Tensor

from adapt.adapter import Predictor

__all__ = ["TOGETHER", "predicted"]

#: Examples at a time; fewer than this go through at once.
TOGETHER = 256


def predicted(predictor: Predictor, x: Tensor, pad: int | None = None) -> Tensor:
    """Outputs ``[m, C]`` for ``x [m, …]``, in its order.

    Args:
        pad: of token ids, what fills the rows of shorter texts: of many, those of one length go together, so
            that the longest does not set how long all take. Rows do not depend on each other.
    """
    if len(x) <= TOGETHER:
        return predictor(x)
    if pad is None or x.is_floating_point() or x.ndim != 2:
        return torch.cat([predictor(part) for part in x.split(TOGETHER)])
    columns = torch.arange(1, x.shape[1] + 1, device=x.device)
    lengths = ((x != pad) * columns).amax(1).clamp(min=1)
    order = lengths.argsort(stable=True)
    parts = [predictor(x[rows, : int(lengths[rows[-1]])]) for rows in order.split(TOGETHER)]
    found = torch.cat(parts)
    outputs = torch.empty_like(found)
    outputs[order] = found
    return outputs
