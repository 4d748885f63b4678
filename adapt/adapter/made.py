"""What adapting found, as a task."""

import numpy as np
from torch import Tensor

from adapt.adapter.adapting import Adapted
from adapt.adapter.fitted import FittedTask
from adapt.adapter.memory import remembered
from adapt.adapter.record import AdapterRecord
from adapt.adapter.uncertainty import posterior_at
from adapt.heads.base import check_outputs

__all__ = ["task_of"]


def task_of(
    adapter: AdapterRecord,
    found: Adapted,
    examples: Tensor,
    targets: Tensor,
    classes: np.ndarray,
    keep: bool,
    parameters: dict[str, Tensor] | None = None,
) -> FittedTask:
    """The task of ``examples [n, …]`` with ``targets [n, C]``; ``keep``: see :meth:`FewShotAdapter.fit`.
    ``parameters``: those of the network at z, if they are there.

    Raises:
        AdaptError: its head gives what is no output.
    """
    z, features, head_state, trace, value, _ = found
    check_outputs(adapter.head.logits(head_state, features), targets)
    known = posterior_at(adapter, z, trace, value, targets.shape)
    seen = remembered(adapter, examples, targets, known) if keep and known is not None else None
    trace = trace._replace(curvature=None, prior=None)  # they are in the posterior
    parameters = adapter.subspace.parameters(z) if parameters is None else parameters
    return FittedTask(adapter, parameters, head_state, classes, z, trace, targets.shape[1], known, seen)
