"""What adapting found, as a task."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from adapt.adapter.adapting import Adapted
from adapt.adapter.fitted import FittedTask
from adapt.adapter.memory import remembered
from adapt.adapter.problem import Memory
from adapt.adapter.record import AdapterRecord
from adapt.adapter.uncertainty import posterior_at
from adapt.heads import is_transductive
from adapt.heads.base import check_outputs
from adapt.inner.posterior import Posterior

__all__ = ["There", "task_of"]


class There(NamedTuple):
    """The parameters of the network at z, and the posterior around it."""

    parameters: dict[str, Tensor]
    posterior: Posterior | None


def task_of(
    adapter: AdapterRecord,
    found: Adapted,
    examples: Tensor,
    targets: Tensor,
    classes: np.ndarray,
    keep: bool,
    there: There | None = None,
) -> FittedTask:
    """The task of ``examples [n, …]`` with ``targets [n, C]``; ``keep``: see :meth:`FewShotAdapter.fit`.
    ``there``: what follows from z, if it has been computed.

    Raises:
        AdaptError: its head gives what is no output.
    """
    z, features, head_state, trace, value, _ = found
    check_outputs(adapter.head.logits(head_state, features), targets)
    if there is None:
        known = posterior_at(adapter, z, trace, value, targets.shape)
        there = There(adapter.subspace.parameters(z), known)
    parameters, known = there
    seen = None
    if keep and known is not None:
        seen = remembered(adapter, examples, targets, known)
    elif keep and not is_transductive(adapter.head):
        seen = Memory(features, features.new_zeros(0, *features.shape), targets)
    trace = trace._replace(curvature=None, prior=None)  # they are in the posterior
    return FittedTask(adapter, parameters, head_state, classes, z, trace, targets.shape[1], known, seen)
