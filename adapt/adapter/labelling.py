"""Labels: which to ask for next, and which look wrong."""

import numpy as np
import torch

from adapt.adapter.inputs import Examples
from adapt.adapter.problem import Memory, model_of
from adapt.adapter.record import TaskRecord
from adapt.adapter.uncertainty import known, pooled, through
from adapt.checks import check_setting, least
from adapt.errors import AdaptError
from adapt.inner.posterior import Posterior, choose, held_out_moves, variances
from adapt.precision import double, outside_autocast

__all__ = ["left_out", "suggested"]


def suggested(task: TaskRecord, pool: Examples, n: int) -> np.ndarray:
    """See :meth:`adapt.FittedTask.suggest`."""
    posterior, loss = known(task), task.adapter.loss
    outputs, columns = pooled(task, pool, posterior)
    size = len(outputs)
    if not size:
        raise AdaptError("the pool holds no examples: pass those that could be labelled")
    n = check_setting("n", n, least(1, f"of {size} examples in the pool, choose 1 … {size}", most=size))
    start = pooled(task, pool, posterior._replace(z=torch.zeros_like(posterior.z)))
    found: np.ndarray = choose(posterior, outputs, columns, loss, n, start).cpu().numpy()
    return found


def left_out(task: TaskRecord) -> np.ndarray:
    """See :meth:`adapt.FittedTask.influence`. z and a head that is fitted are both without the example, the
    head exactly (up to what its own leave-one-out outputs are), z by one step:

        o_i(h^(−i), z₋ᵢ) ≈ o_i(h^(−i), z*) + ∂o_i/∂z (z₋ᵢ − z*)
    """
    posterior, memory = known(task), task.memory
    if memory is None:
        raise AdaptError(
            "this task kept no examples to look back at: use adapter.fit(x, y, keep=True), and without a "
            "head no partial_fit that forgets"
        )
    with outside_autocast(task.z.device):  # the network does not run
        return _held_out(task, posterior, memory)


def _held_out(task: TaskRecord, posterior: Posterior, memory: Memory) -> np.ndarray:
    """−log p ``[n]`` of what is remembered, each without itself."""
    problem, targets, features = task.adapter.problem, memory.targets, memory.at(task.z)
    model = model_of(memory.at, task.adapter.state, targets, problem)
    moves = held_out_moves(
        posterior,
        *through(lambda f: model.readout(f, None), features, memory.columns),
        targets,
        problem.loss,
    )
    outputs, columns = through(lambda f: problem.head.loo_logits(f, targets), features, memory.columns)
    outputs = outputs + torch.einsum("nk,knc->nc", moves.to(outputs), columns)
    if not problem.loss.regression:
        found: np.ndarray = problem.loss.values(outputs / posterior.noise, targets).cpu().numpy()
        return found
    # How sure it is of them without the example is left as it is with it.
    variance = variances(posterior, columns) + posterior.noise
    losses = 0.5 * (double(outputs - targets).square() / variance + (2 * torch.pi * variance).log())
    found = losses.sum(1).to(outputs).cpu().numpy()
    return found
