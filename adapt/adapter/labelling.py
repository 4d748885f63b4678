"""Labels: which to ask for next, and which look wrong."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.inputs import Examples
from adapt.adapter.problem import Memory, model_of
from adapt.adapter.record import TaskRecord
from adapt.adapter.uncertainty import known, pooled, through
from adapt.checks import check_setting, least
from adapt.errors import AdaptError
from adapt.heads import Direct
from adapt.inner.posterior import Posterior, choose, held_out_moves, variances
from adapt.precision import double, outside_autocast

__all__ = ["left_out", "suggested"]


def suggested(task: TaskRecord, logits: Callable[[Examples], Tensor], pool: Examples, n: int) -> np.ndarray:
    """See :meth:`adapt.FittedTask.suggest`, whose ``logits`` are the outputs of ``task`` for examples.

    Of classes and a head that is fitted, what is unsure is the head, of which z knows nothing: those whose
    two most probable classes are closest, p₁ − p₂ (Scheffer, Decomain, Wrobel 2001, *Active Hidden Markov
    Models for Information Extraction*, section 4).
    """
    loss = task.adapter.loss
    if loss.regression or isinstance(task.adapter.head, Direct):
        posterior = known(task)
        outputs, columns = pooled(task, pool, posterior)
        n = _number(n, len(outputs))
        start = pooled(task, pool, posterior._replace(z=torch.zeros_like(posterior.z)))
        chosen = choose(posterior, outputs, columns, loss, n, start)
    else:
        outputs = double(logits(pool))
        n = _number(n, len(outputs))
        best = outputs.softmax(1).topk(min(2, outputs.shape[1]), 1).values
        chosen = (best[:, 0] - best[:, -1]).argsort(stable=True)[:n]
    found: np.ndarray = chosen.cpu().numpy()
    return found


def _number(n: int, size: int) -> int:
    """``n`` of ``size`` examples.

    Raises:
        AdaptError: not so many, or none at all.
    """
    if not size:
        raise AdaptError("the pool holds no examples: pass those that could be labelled")
    return check_setting("n", n, least(1, f"of {size} examples in the pool, choose 1 … {size}", most=size))


def left_out(task: TaskRecord) -> np.ndarray:
    """See :meth:`adapt.FittedTask.influence`. z and a head that is fitted are both without the example, z by
    one step, the head by its own leave-one-out outputs: of values exact ones, of classes those that its one
    fit tells (:func:`adapt.heads.leave_one_out.fit_and_leave_out`), with the head held on the way of z:

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
    if problem.loss.regression:
        outputs, columns = through(lambda f: problem.head.loo_logits(f, targets), features, memory.columns)
    else:
        outputs, columns = model.held_out(features, memory.columns)
    outputs = outputs + torch.einsum("nk,knc->nc", moves.to(outputs), columns)
    if not problem.loss.regression:
        found: np.ndarray = problem.loss.values(outputs / posterior.noise, targets).cpu().numpy()
        return found
    # How sure it is of them without the example is left as it is with it.
    variance = variances(posterior, columns) + posterior.noise
    losses = 0.5 * (double(outputs - targets).square() / variance + (2 * torch.pi * variance).log())
    found = losses.sum(1).to(outputs).cpu().numpy()
    return found
