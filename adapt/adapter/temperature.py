"""The temperature that a task's own examples ask for.

    τ = argmin  Σ_i −log softmax(o_i / τ)[y_i] + ½ (log τ)²        o_i of the task without example i

Guo, Pleiss, Sun, Weinberger (2017), *On Calibration of Modern Neural Networks*, section 4.2, with held-out
examples that cost nothing: what each of the few there are scores without itself. The second term keeps it
finite where all of them are right: log τ ~ N(0, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapt.precision import double

__all__ = ["temperature_of"]

#: log τ is looked for between −this and this, on so many points, each time a tenth as far apart.
RANGE, POINTS, ROUNDS = 4.0, 81, 4


def temperature_of(logits: Tensor, labels: Tensor) -> float:
    """τ for ``logits [n, C]`` and ``labels [n]``; 1 of no examples.

    Example:
        >>> unsure = torch.tensor([[0.1, 0.0], [0.0, 0.1]]).repeat(20, 1)
        >>> temperature_of(unsure, torch.tensor([0, 1]).repeat(20)) < 0.1
        True
    """
    logits = double(logits)
    middle, width = logits.new_zeros(()), RANGE
    for _ in range(ROUNDS):
        tried = middle + torch.linspace(-width, width, POINTS, dtype=logits.dtype, device=logits.device)
        losses = torch.stack([_loss(logits, labels, it) for it in tried])
        middle, width = tried[losses.argmin()], 0.1 * width
    return float(middle.exp())


def _loss(logits: Tensor, labels: Tensor, log_tau: Tensor) -> Tensor:
    found = (logits * torch.exp(-log_tau)).log_softmax(1).gather(1, labels[:, None])
    return 0.5 * log_tau.square() - found.sum()
