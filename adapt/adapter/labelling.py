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
from adapt.heads import Direct, Prototype
from adapt.inner.posterior import choose, held_out_moves, variances
from adapt.precision import double, outside_autocast

__all__ = [
    "as_words",
    "doubtful_labels",
    "held_out",
    "left_out",
    "looked_back_at",
    "suggested",
    "suspects",
    "trusted",
]

#: Examples without which a head that has no shorter way is trained anew, one by one, without being asked to.
ANEW = 128


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
    loss, memory = task.adapter.loss, looked_back_at(task)
    targets = memory.targets
    if not loss.regression:
        found: np.ndarray = loss.values(held_out(task), targets).cpu().numpy()
        return found
    known(task)
    outputs, variance = _held_out(task, memory)
    losses = 0.5 * (double(outputs - targets).square() / variance + (2 * torch.pi * variance).log())
    found = losses.sum(1).to(outputs).cpu().numpy()
    return found


def looked_back_at(task: TaskRecord) -> Memory:
    """The examples that ``task`` keeps.

    Raises:
        AdaptError: it keeps none.
    """
    if task.memory is None:
        known(task)  # there may be more to say
        raise AdaptError(
            "this task kept no examples to look back at: use adapter.fit(x, y, keep=True), and without a "
            "head no partial_fit that forgets"
        )
    return task.memory


def held_out(task: TaskRecord) -> Tensor:
    """Outputs ``[n, C]`` for each example that ``task`` keeps, from the task without it: logits, with the
    temperature of the adapter's calibration if it has one.

    Raises:
        AdaptError: it keeps none.
    """
    memory = looked_back_at(task)
    if task.posterior is not None:
        return _held_out(task, memory)[0]
    with torch.no_grad(), outside_autocast(task.z.device):
        return task.adapter.head.loo_logits(memory.base, memory.targets)


def _held_out(task: TaskRecord, memory: Memory) -> tuple[Tensor, Tensor]:
    """For what is remembered, each without itself: values ``[n, C]`` with the variance of an observation, or
    logits, divided by the temperature, with that of theirs. How sure it is without the example is left as it
    is with it."""
    posterior, problem, targets = known(task), task.adapter.problem, memory.targets
    with outside_autocast(task.z.device):  # the network does not run
        features, model = memory.at(task.z), model_of(memory.at, task.adapter.state, targets, problem)
        moves = held_out_moves(
            posterior,
            *through(lambda f: model.readout(f, None), features, memory.columns),
            targets,
            problem.loss,
        )
        if problem.loss.regression:
            outputs, columns = through(
                lambda f: problem.head.loo_logits(f, targets), features, memory.columns
            )
        else:
            outputs, columns = model.held_out(features, memory.columns)
        outputs = outputs + torch.einsum("nk,knc->nc", moves.to(outputs), columns)
        if not problem.loss.regression:
            return outputs / posterior.noise, variances(posterior, columns)
        return outputs, variances(posterior, columns) + posterior.noise


def suspects(task: TaskRecord, number: int) -> dict[int, str] | None:
    """Which of the examples that ``task`` keeps have a label that looks wrong to it without them, by
    :func:`doubtful_labels`: at most ``number`` positions, the most doubtful first, with what is said of each.
    Of a class with a single example nothing is said. None: it keeps none, predicts values, or has a head that
    is trained anew without each of more than :data:`ANEW`."""
    if task.memory is None or task.adapter.loss.regression:
        return None
    if getattr(task.adapter.head, "trains_anew", False) and len(task.memory.targets) > ANEW:
        return None
    rows, labels, best = _doubtful(task, number)
    classes = task.classes_
    return {int(row): as_words(classes[labels[row]], classes[best[row]]) for row in rows}


def _doubtful(task: TaskRecord, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows whose label looks wrong, the most doubtful first, at most ``number``; and of all rows the label
    and what they look like, as positions."""
    probabilities = held_out(task).softmax(-1).cpu().numpy()
    labels = looked_back_at(task).targets.argmax(1).cpu().numpy()
    several = np.flatnonzero(np.bincount(labels)[labels] > 1)
    rows = several[doubtful_labels(probabilities[several], labels[several], number)]
    return rows, labels, probabilities.argmax(1)


def trusted(task: TaskRecord) -> np.ndarray:
    """Which of the examples that ``task`` keeps are nearest to the mean of their own class, each left out of
    it ``[n]``; two of every class at least, the least doubtful.

    Class means are moved less by wrong labels than a head that is fitted to them: chosen on validation tasks
    of characters and requests, a fifth of whose labels were wrong.

    Raises:
        AdaptError: it keeps none, or predicts values.
    """
    if task.adapter.loss.regression:
        raise AdaptError("trim: values have no labels that look wrong: leave it out")
    memory = looked_back_at(task)
    with torch.no_grad(), outside_autocast(task.z.device):
        near = Prototype().loo_logits(double(memory.at(task.z)), double(memory.targets))
    labels = memory.targets.argmax(1).cpu().numpy()
    doubt = (near.amax(1) - near.gather(1, memory.targets.argmax(1, keepdim=True))[:, 0]).cpu().numpy()
    keep = np.ones(len(labels), dtype=bool)
    for row in np.argsort(-doubt, kind="stable")[: int((doubt > 0).sum())]:
        keep[row] = (keep & (labels == labels[row])).sum() <= 2
    return keep


def as_words(label: object, instead: object) -> str:
    """What is said of a label that looks wrong."""
    return f"is {label}, looks like {instead}"


def doubtful_labels(probabilities: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
    """Rows whose label looks wrong: another class is as probable as it is on average where it is the label
    (Northcutt, Jiang, Chuang 2021, *Confident Learning*, equation 1); the most doubtful first.

    Args:
        probabilities: held-out ``[n, C]``.
        labels: positions ``[n]``.
    """
    own = probabilities[np.arange(len(labels)), labels]
    means = [
        own[labels == c].mean() if (labels == c).any() else np.inf for c in range(probabilities.shape[1])
    ]
    best = probabilities.argmax(1)
    doubtful = np.flatnonzero((best != labels) & (probabilities.max(1) >= np.array(means)[best]))
    return doubtful[np.argsort(own[doubtful] - probabilities.max(1)[doubtful], kind="stable")][:number]
