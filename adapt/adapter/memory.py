"""The examples that a task has seen, linearised: what is needed of them to go on, or to look back.

    features_i(z) ≈ F_i + J_i z

A head that is fitted depends on all examples, so a task with one keeps them in this form, at most so many.
"""

import torch
from torch import Tensor

from adapt.adapter.adapting import can_adapt
from adapt.adapter.problem import Memory, model_of
from adapt.adapter.record import AdapterRecord
from adapt.adapter.uncertainty import moving_features
from adapt.inner.linearised import solve_linear
from adapt.inner.posterior import Posterior, posterior_of
from adapt.inner.solver import Learned

__all__ = ["ROWS", "joined", "newest", "refitted", "remembered"]

#: Examples that are kept; of more, the oldest of the class that has most go first.
ROWS = 1024
#: Gauss–Newton steps on features that are linear; they need no pass of the network.
STEPS = 8


def remembered(adapter: AdapterRecord, examples: Tensor, targets: Tensor, posterior: Posterior) -> Memory:
    """``examples [n, …]`` with ``targets [n, C]``, linearised at the mean of ``posterior``; one pass of 1 +
    k."""
    features, columns = moving_features(adapter, examples, posterior)
    return Memory(features - torch.tensordot(posterior.z.to(features), columns, 1), columns, targets)


def joined(before: Memory, after: Memory) -> Memory:
    """Both, of which no more than :data:`ROWS` are kept."""
    both = Memory(
        torch.cat([before.base, after.base]),
        torch.cat([before.columns, after.columns], 1),
        torch.cat([before.targets, after.targets]),
    )
    return _kept(both, _within(both.targets, ROWS))


def newest(memory: Memory, share: float) -> Memory:
    """Of every class (in regression: of all) the newest ``share``, one at least."""
    classes = _classes(memory.targets)
    age = (classes[:, None] == classes[None, :]).triu(1).sum(1)  # how many of its class came after it
    count = (classes[:, None] == classes[None, :]).sum(1)
    return _kept(memory, age < (share * count).round().clamp(min=1))


def refitted(adapter: AdapterRecord, memory: Memory, posterior: Posterior) -> tuple[Tensor, Posterior]:
    """The state of the head, and the posterior, from all that is remembered. z stays where it is as long as a
    class has a single example."""
    state, problem, targets = adapter.state, adapter.problem, memory.targets
    with torch.no_grad():
        known = posterior
        if can_adapt(targets, problem.loss):
            readout = model_of(memory.at, state, targets, problem).readout
            learned = Learned(posterior.prior, state.learned.damping, state.learned.rates)
            base, columns = memory.base, memory.columns
            found = solve_linear(base, columns, readout, targets, problem.loss, learned, STEPS)
            z = found.z.to(posterior.z)
            assert found.curvature is not None
            known = posterior_of(
                z, found.curvature.to(z), posterior.prior, posterior.spread, posterior.noise, len(targets)
            )
        return problem.head.fit(memory.at(known.z), targets), known


def _classes(targets: Tensor) -> Tensor:
    """Of each row ``[n]``: its class; rows of values are all of one."""
    hot = bool(((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all())
    return targets.argmax(1) if hot and targets.shape[1] > 1 else targets.new_zeros(len(targets))


def _within(targets: Tensor, most: int) -> Tensor:
    keep = torch.ones(len(targets), dtype=torch.bool, device=targets.device)
    classes = _classes(targets)
    for _ in range(len(targets) - most):
        counts = torch.bincount(classes[keep].long())
        largest = (classes == counts.argmax()) & keep
        keep[int(largest.nonzero()[0])] = False
    return keep


def _kept(memory: Memory, keep: Tensor) -> Memory:
    return Memory(memory.base[keep], memory.columns[:, keep], memory.targets[keep])
