"""The examples that a task has seen, linearised: what is needed of them to go on, or to look back.

    features_i(z) ≈ F_i + J_i z

A head that is fitted depends on all examples, so a task with one keeps them in this form, at most so many.
"""

import torch
from torch import Tensor

from adapt.adapter.adapting import can_adapt, settle
from adapt.adapter.problem import Memory, model_of
from adapt.adapter.record import AdapterRecord
from adapt.adapter.uncertainty import moving_features, posterior_at
from adapt.errors import AdaptError
from adapt.inner import Loss, Trace
from adapt.inner.linearised import solve_linear
from adapt.inner.posterior import Posterior
from adapt.inner.solver import Learned
from adapt.precision import outside_autocast

__all__ = ["ROWS", "joined", "kept", "memory_of", "newest", "refitted", "remembered"]

#: Examples that are kept; of more, the oldest of the class that has most go first.
ROWS = 1024
#: Gauss–Newton steps on features that are linear; they need no pass of the network.
STEPS = 8


def remembered(adapter: AdapterRecord, examples: Tensor, targets: Tensor, posterior: Posterior) -> Memory:
    """``examples [n, …]`` with ``targets [n, C]``, linearised at the mean of ``posterior``; one pass of 1 +
    k."""
    return memory_of(*moving_features(adapter, examples, posterior), targets, posterior.z)


def memory_of(features: Tensor, columns: Tensor, targets: Tensor, z: Tensor) -> Memory:
    """Of ``features [n, D]`` at z ``[k]`` and their derivatives ``columns [k, n, D]``."""
    with outside_autocast(features.device):
        return Memory(features - torch.tensordot(z.to(features), columns, 1), columns, targets)


def joined(before: Memory, after: Memory, loss: Loss) -> Memory:
    """Both, of which no more than :data:`ROWS` are kept.

    Raises:
        AdaptError: they are of different networks.
    """
    if before.base.shape[1] != after.base.shape[1]:
        raise AdaptError(
            f"the examples that the task keeps have {before.base.shape[1]} features, and the network makes "
            f"{after.base.shape[1]}: the saved task is damaged, or of another backbone"
        )
    both = Memory(
        torch.cat([before.base, after.base]),
        torch.cat([before.columns, after.columns], 1),
        torch.cat([before.targets, after.targets]),
    )
    if len(both.targets) <= ROWS:
        return both
    classes = _classes(both.targets, loss)
    # Again and again the oldest of the class that has most: of those of a class, those with most after them.
    order = torch.argsort(_age(classes) * (int(classes.max()) + 1) - classes, stable=True)
    keep = torch.zeros(len(classes), dtype=torch.bool, device=classes.device)
    keep[order[:ROWS]] = True
    return kept(both, keep)


def newest(memory: Memory, share: float, loss: Loss) -> Memory:
    """Of every class (in regression: of all) the newest ``share``, one at least."""
    classes = _classes(memory.targets, loss)
    count = torch.bincount(classes)[classes]
    return kept(memory, _age(classes) < (share * count).round().clamp(min=1))


def refitted(adapter: AdapterRecord, memory: Memory, posterior: Posterior) -> tuple[Tensor, Posterior]:
    """The state of the head, and the posterior, from all that is remembered, as :func:`adapt` finds them. z
    stays where it is as long as a class has a single example."""
    state, problem, targets = adapter.state, adapter.problem, memory.targets
    with torch.no_grad(), outside_autocast(targets.device):
        if not can_adapt(targets, problem.loss):
            return problem.head.fit(memory.at(posterior.z), targets), posterior
        model = model_of(memory.at, state, targets, problem)
        learned = Learned(posterior.prior, state.learned.damping, state.learned.rates)
        found = solve_linear(
            memory.base, memory.columns, model.readout, targets, problem.loss, learned, STEPS
        )
        z, before = found.z.to(posterior.z), found.losses[0]
        end = settle(model, torch.zeros_like(z), z, before, targets, problem)
        trace = Trace(found.losses, 0.0, "", found.curvature, posterior.prior)
        known = posterior_at(adapter, end.point, trace, end.value.to(z), targets.shape)
        return end.head_state, posterior if known is None else known


def kept(memory: Memory, keep: Tensor) -> Memory:
    """The rows ``keep [n]`` says."""
    return Memory(memory.base[keep], memory.columns[:, keep], memory.targets[keep])


def _classes(targets: Tensor, loss: Loss) -> Tensor:
    """Of each row ``[n]``: its class; rows of values are all of one."""
    return targets.new_zeros(len(targets), dtype=torch.int64) if loss.regression else targets.argmax(1)


def _age(classes: Tensor) -> Tensor:
    """How many of its class came after each ``[n]``."""
    order = torch.argsort(classes, stable=True)
    last = torch.bincount(classes).cumsum(0)[classes[order]] - 1
    age = torch.empty_like(order)
    age[order] = last - torch.arange(len(order), device=order.device)
    return age
