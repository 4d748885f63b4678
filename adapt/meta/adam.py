"""Adam and its learning rate, as pure functions of their moments and of the step.

    m ← β₁m + (1−β₁)g ,  v ← β₂v + (1−β₂)g² ,  θ ← θ − η_t m̂ / (√v̂ + ε) ,  η_t = η (1 + cos(π t/T)) / 2

Kingma and Ba (2015), *Adam*, algorithm 1; Loshchilov and Hutter (2017), *SGDR*, equation 5 without restarts.
Written out because a run that goes on from a checkpoint must do the same to the last bit: all there is to
save are tensors and the number of the step.
"""

from math import cos, pi
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Moments", "adam", "clipped", "cosine"]


class Moments(NamedTuple):
    """Running means of gradients and of their squares."""

    first: Tensor
    second: Tensor


def adam(value: Tensor, gradient: Tensor, moments: Moments, update: int, lr: float) -> tuple[Tensor, Moments]:
    """``value`` and moments after update number ``update`` = 1, 2, …"""
    first = moments.first.lerp(gradient, 0.1)
    second = moments.second.lerp(gradient.square(), 0.001)
    scale = (second / (1 - 0.999**update)).sqrt().add_(1e-8)
    return value - (lr / (1 - 0.9**update)) * first / scale, Moments(first, second)


def cosine(step: int, steps: int) -> float:
    """Factor on the learning rate of step 0 … ``steps`` − 1."""
    return 0.5 * (1 + cos(pi * step / steps))


def clipped(gradients: dict[str, Tensor], greatest: float) -> tuple[dict[str, Tensor], float]:
    """Gradients scaled to a joint norm of at most ``greatest``, and the norm they had."""
    norm = float(torch.stack([gradient.norm() for gradient in gradients.values()]).norm())
    if not norm > greatest:
        return gradients, norm
    return {name: gradient * (greatest / norm) for name, gradient in gradients.items()}, norm
