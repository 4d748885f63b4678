"""Whether backpropagation through all of φ pays for a task, by its own support examples.

    d_i = ℓ_i(z solved for without the fold of i) − ℓ_i(φ by backpropagation without the fold of i)

Backpropagation is taken where the mean of d is more than one standard error above 0: what costs more must win
by more than chance (Breiman et al. 1984, *Classification and Regression Trees*, section 3.4.3). Both are
fitted to the same folds, so that neither has seen more; it costs about one more fit of each, up to
three where classes are small.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from adapt.adapter.fitted import FittedTask
from adapt.adapter.record import AdapterRecord
from adapt.adapter.state import whole_state
from adapt.inner import Loss
from adapt.inner.cross_validation import folds_of

__all__ = ["preferred", "rival_of"]

Adapter = TypeVar("Adapter", bound=AdapterRecord)


class _HeldOut(NamedTuple):
    """Losses of examples that were held out ``[n]``, the passes over all examples that they took, and those
    that a fit of all takes."""

    losses: Tensor
    passes: float
    price: float


def rival_of(adapter: Adapter) -> Adapter | None:
    """The adapter that moves all of φ from the same start, as ``adapter.solver`` says; None if it says that
    this is never tried, or autograd is not to be had."""
    solver = getattr(adapter.solver, "rival", None)
    if solver is None or torch.is_inference_mode_enabled():
        return None
    state = whole_state(adapter.space, adapter.state)
    return adapter.replace(state=state, solver=solver, calibration=None)


def preferred(found: FittedTask, rival: Any, examples: Tensor, targets: Tensor, keep: bool) -> FittedTask:
    """``found``, or what ``rival`` makes of the same support, whichever held-out examples speak for; its
    trace says why, and what the other would have cost.

    Args:
        examples: of the support, as the backbone takes them ``[n, …]``.
        targets: one-hot rows, or values ``[n, C]``.
        keep: as for ``FewShotAdapter.fit``.
    """
    solver: Any = found.adapter.solver
    own = found.adapter.replace(solver=solver.alone)  # or every fold would try again
    # What moves forward with all examples must be able to without a fold, or the head alone is compared.
    masks = _folds(targets, own.loss, 3 if bool(found.z.any()) else 2)
    if masks is None:
        return found
    labels = targets if own.loss.regression else targets.argmax(1)
    ours, theirs = (_held_out(adapter, examples, labels, targets, masks) for adapter in (own, rival))
    tried = ours.passes + theirs.passes
    means = (float(theirs.losses.mean()), float(ours.losses.mean()))
    if not _is_better(theirs.losses, ours.losses):
        why = (
            f"backpropagation was not better by more than its standard error: held-out loss {means[0]:.3g} "
            f"against {means[1]:.3g}, at {theirs.price:.3g} passes"
        )
        trace = found.trace._replace(choice="; ".join(filter(None, (found.trace.choice, why))))
        spent = trace.forward_equivalents + tried
        return replace(found, trace=trace._replace(forward_equivalents=spent))
    named = targets if own.loss.regression else found.classes_[labels.cpu().numpy()]
    fitted = rival.fit(examples, named, keep=keep)
    choice = (
        f"backpropagation through {len(fitted.z)} numbers: held-out loss {means[0]:.3g} against "
        f"{means[1]:.3g} of the next best ({found.trace.choice}), which would have cost "
        f"{found.trace.forward_equivalents:.3g} passes in place of {fitted.trace.forward_equivalents:.3g}"
    )
    spent = found.trace.forward_equivalents + tried + fitted.trace.forward_equivalents
    return replace(fitted, trace=fitted.trace._replace(choice=choice, forward_equivalents=spent))


def _is_better(theirs: Tensor, ours: Tensor) -> bool:
    """Whether held-out losses ``theirs [n]`` are below ``ours`` by more than one standard error of the mean
    difference. Who predicts what is not finite is no better than anybody, and worse than who does not."""
    if not bool(torch.isfinite(theirs).all()):
        return False
    gain = (ours - theirs).double()
    return not bool(torch.isfinite(gain).all()) or float(gain.mean()) > float(gain.std() / len(gain) ** 0.5)


def _folds(targets: Tensor, loss: Loss, needed: int) -> Tensor | None:
    """Which examples each fold keeps ``[folds, n]``: as few folds as leave ``needed`` examples of every class
    (in regression: of all), two at least; None if no number of folds does."""
    fewest = len(targets) if loss.regression else int(targets.sum(0).min())
    if fewest <= needed:
        return None
    most = fewest - needed  # that may be held out at a time
    return folds_of(targets, max(2, ceil(fewest / most)), loss).bool()


def _held_out(adapter: Any, examples: Tensor, labels: Tensor, targets: Tensor, masks: Tensor) -> _HeldOut:
    losses, passes, prices = targets.new_zeros(len(targets)), 0.0, []
    for kept in masks:
        task = adapter.fit(examples[kept], labels[kept])
        outputs = task.logits(examples[~kept]).to(targets)
        losses[~kept] = adapter.loss.values(outputs, targets[~kept])
        prices.append(task.trace.forward_equivalents)
        share = float(kept.double().mean())
        passes += share * prices[-1] + 1 - share
    return _HeldOut(losses, passes, sum(prices) / len(prices))
