"""Queries that are changed a little, so that a task takes them for another class.

    x_{t+1} = clip(x_t + a sign ∇ ℓ(o(x_t), y)) ,  within ‖x − x_0‖_∞ ≤ r and [0, 1] ,  a = 2.5 r / steps

from x_0 and from random points. Madry, Makelov, Schmidt, Tsipras, Vladu (2018), *Towards Deep Learning Models
Resistant to Adversarial Attacks*, section 2.1. ℓ is the cross-entropy, and besides the difference of logits

    ℓ_DLR = −(o_y − max_{c ≠ y} o_c) / (o_(1) − o_(3))     o_(1) ≥ o_(2) ≥ …; of two classes without divisor

of Croce and Hein (2020), *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
Parameter-Free Attacks*, equation 3, which no scale of the logits makes flat; an example is safe that no loss
and no start beats, as there. Their step sizes that adapt, and the attacks that need no gradient, are left
out: what comes out is an upper limit of what is safe.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapt.checks import check_setting, least, positive

__all__ = ["attacked", "dlr"]

#: Logits ``[m, C]`` of examples ``[m, …]``, differentiable in these.
Outputs = Callable[[Tensor], Tensor]


def attacked(
    outputs: Outputs,
    x: Tensor,
    y: Tensor,
    radius: float,
    *,
    steps: int = 20,
    starts: int = 2,
    seed: int = 0,
) -> Tensor:
    """Examples like ``x [m, …]`` in [0, 1], each within ``radius`` of its own, that are taken for others than
    ``y [m]`` where that was achieved.

    Args:
        steps: gradients of each loss from each start.
        starts: the first is ``x``, others are random.
        seed: of these.

    Raises:
        AdaptError: settings that make no sense.

    Example:
        >>> outputs = lambda x: torch.stack([x.sum(1), 1 - x.sum(1)], 1)
        >>> near, far = torch.tensor([[0.27, 0.27], [0.9, 0.9]])
        >>> x = torch.stack([near, far])
        >>> outputs(attacked(outputs, x, torch.tensor([0, 0]), radius=0.05)).argmax(1)
        tensor([1, 0])
    """
    check_setting("radius", radius, positive("a distance"))
    check_setting("steps", steps, least(1))
    check_setting("starts", starts, least(1))
    generator = torch.Generator().manual_seed(seed)
    found = x.clone()
    with torch.no_grad():
        safe = outputs(x).argmax(-1) == y
    for loss in (_cross_entropy, dlr):
        for start in range(starts):
            if not bool(safe.any()):
                return found
            own, labels = x[safe], y[safe]
            moved = own.clone()
            if start:
                drawn = torch.rand(own.shape, generator=generator, dtype=own.dtype).to(own)
                moved = (own + radius * (2 * drawn - 1)).clamp(0, 1)
            moved = _ascend(outputs, loss, own, moved, labels, radius, steps)
            with torch.no_grad():
                beaten = outputs(moved).argmax(-1) != labels
            rows = safe.nonzero()[:, 0][beaten]
            found[rows], safe[rows] = moved[beaten], False
    return found


def _ascend(
    outputs: Outputs,
    loss: Callable[[Tensor, Tensor], Tensor],
    own: Tensor,
    moved: Tensor,
    labels: Tensor,
    radius: float,
    steps: int,
) -> Tensor:
    for _ in range(steps):
        at = moved.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(loss(outputs(at), labels).sum(), at)
        moved = at.detach() + 2.5 * radius / steps * slope.sign()
        moved = torch.minimum(torch.maximum(moved, own - radius), own + radius).clamp(0, 1)
    return moved


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio ``[m]`` of ``logits [m, C]`` and ``labels [m]``."""
    rows = torch.arange(len(logits), device=logits.device)
    own = logits[rows, labels]
    other = logits.masked_fill(torch.nn.functional.one_hot(labels, logits.shape[1]).bool(), -torch.inf)
    gap = own - other.amax(1)
    if logits.shape[1] < 3:
        return -gap
    first, _, third = logits.topk(3).values.unbind(1)
    return -gap / (first - third + 1e-12)
