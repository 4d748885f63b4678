"""Going on with a task as further examples come: learning from them, and noticing that it has changed.

Without a head, z and A are all that is kept (the recursion of :func:`adapt.inner.posterior.condition`); with
one that is fitted, the examples too, linearised (:mod:`adapt.adapter.memory`). Either way the network runs
over the new examples only.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.inputs import Examples, Labels, as_positions, as_targets, label_classes
from adapt.adapter.memory import joined, newest, refitted, remembered
from adapt.adapter.problem import Memory
from adapt.adapter.record import TaskRecord
from adapt.adapter.uncertainty import known, linearised, predictive_of
from adapt.checks import between, check_setting
from adapt.errors import AdaptError
from adapt.heads import Direct, one_hot
from adapt.inner.change import Watch, fresh, watched
from adapt.inner.posterior import Posterior, condition, innovation

__all__ = ["LEVEL", "OnChange", "Surprise", "surprise_of", "updated"]

Task = TypeVar("Task", bound=TaskRecord)
OnChange = Literal["ignore", "forget"]
#: A p-value below which a task counts as changed.
LEVEL = 1e-4
#: Draws of labels by which a p-value is found where there is no formula; the least one is 1 over one more.
DRAWS = 19_999


@dataclass(frozen=True)
class Surprise:
    """How little the labels of further examples fit what is known of the task.

    Attributes:
        statistic: regression: the normalised innovation squared; classes: −log p of the labels, a sum.
        p_value: the probability of one as large if the examples are of the same task.
    """

    statistic: float
    p_value: float


def surprise_of(task: TaskRecord, x: Examples, y: Labels) -> Surprise:
    """Of labels ``y`` for ``x [n, …]``, taken together.

    Raises:
        AdaptError: shapes, values or labels that cannot be used, or a task without a posterior.
    """
    posterior = known(task)
    if not task.adapter.loss.regression:
        probabilities = predictive_of(task, x, None).probabilities
        classes, place = label_classes(y, len(probabilities), task.classes_)
        if len(classes) > len(task.classes_):  # one that the task does not know
            return Surprise(float("inf"), 0.0)
        return _of_classes(probabilities, place)
    examples = task.adapter.examples(x)
    targets = _targets(task, y, len(examples))
    return _of_values(posterior, *linearised(task, examples, posterior), targets)


def _of_values(posterior: Posterior, outputs: Tensor, columns: Tensor, targets: Tensor) -> Surprise:
    found = innovation(posterior, outputs, columns, targets).double()
    degrees = found.new_tensor(targets.numel())
    return Surprise(float(found), float(torch.special.gammaincc(degrees / 2, found / 2)))


def _of_classes(probabilities: np.ndarray, truth: np.ndarray) -> Surprise:
    losses = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))  # [n, C]
    seen = losses[np.arange(len(truth)), truth].sum()
    # Gumbel's way to draw from all rows at once, in parts that fit into memory.
    generator, drawn, more = np.random.default_rng(0), 0, 0
    part = max(1, 10**7 // losses.size)
    while drawn < DRAWS:
        size = min(part, DRAWS - drawn)
        labels = (generator.gumbel(size=(size, *losses.shape)) - losses).argmax(-1)
        sums = np.take_along_axis(losses[None], labels[:, :, None], 2)[:, :, 0].sum(1)
        more += int((sums >= seen * (1 - 1e-9)).sum())
        drawn += size
    return Surprise(float(seen), (1 + more) / (1 + DRAWS))


def updated(task: Task, x: Examples, y: Labels, forget: float, on_change: OnChange, level: float) -> Task:
    """See :meth:`adapt.FittedTask.partial_fit`."""
    if on_change not in ("ignore", "forget"):
        raise AdaptError(f"on_change={on_change!r}: choose ignore or forget")
    forget = check_setting("forget", forget, between(0, 1, "a share from 0 to 1 of what was known counts on"))
    posterior, loss = known(task), task.adapter.loss
    examples = task.adapter.examples(x)
    direct = isinstance(task.adapter.head, Direct)
    if direct and loss.regression and on_change == "forget":
        targets = _targets(task, y, len(examples))
        posterior, watch = watched(
            posterior, task.watch or Watch(), partial(linearised, task, examples), targets, loss, forget
        )
        return _moved(task, posterior, task.head_state, watch=watch)
    changed = on_change == "forget" and surprise_of(task, x, y).p_value < level
    if not direct:
        return _with_memory(task, examples, y, 0.0 if changed else forget, changed)
    targets = _targets(task, y, len(examples))
    posterior = fresh(posterior) if changed else posterior
    posterior = condition(posterior, *linearised(task, examples, posterior), targets, loss, forget)
    return _moved(task, posterior, task.head_state)


def _moved(task: Task, posterior: Posterior, head_state: Tensor, **more: Any) -> Task:
    if task.adapter.calibration is not None:
        posterior = posterior._replace(spread=task.adapter.calibration.spread_of(posterior.examples))
    parameters = task.adapter.subspace.parameters(posterior.z)
    return replace(
        task, parameters=parameters, head_state=head_state, z=posterior.z, posterior=posterior, **more
    )


def _targets(task: TaskRecord, y: Labels, n: int) -> Tensor:
    """Of n further examples of a task whose classes, or numbers per example, do not change ``[n, C]``."""
    like = task.z
    if not task.adapter.loss.regression:
        place = as_positions(y, n, task.classes_)
        if (place < 0).any():
            raise AdaptError(
                "y holds a class that the task does not have, and its network has no output for it: a head "
                "that is fitted, such as heads.Logistic(), can learn it"
            )
        return one_hot(torch.from_numpy(place).to(like.device), task.outputs, like.dtype)
    targets = as_targets(y, n, like, task.adapter.loss)[1]
    if targets.shape[1] != task.outputs:
        raise AdaptError(f"y has {targets.shape[1]} numbers per example, and the task {task.outputs}")
    return targets


def _with_memory(task: Task, examples: Tensor, y: Labels, forget: float, changed: bool) -> Task:
    """``task``, whose head is fitted, after more examples; classes may be new."""
    if task.memory is None:
        raise AdaptError(
            f"the head {type(task.adapter.head).__name__} is fitted to all examples, and this task kept "
            "none: use adapter.fit(x, y, keep=True)"
        )
    before, posterior, classes = task.memory, known(task), task.classes_
    if task.adapter.loss.regression:
        targets = _targets(task, y, len(examples))
    else:
        classes, place = label_classes(y, len(examples), task.classes_)
        like = before.targets
        old = np.searchsorted(classes, task.classes_)
        wider = like.new_zeros(len(like), len(classes))
        wider[:, torch.from_numpy(old).to(like.device)] = like
        before = before._replace(targets=wider)
        targets = one_hot(torch.from_numpy(place).to(like.device), len(classes), like.dtype)
    new = remembered(task.adapter, examples, targets, posterior)
    memory = _only(new, before) if changed else joined(newest(before, forget) if forget < 1 else before, new)
    head_state, posterior = refitted(task.adapter, memory, posterior)
    return _moved(task, posterior, head_state, memory=memory, classes_=classes, outputs=targets.shape[1])


def _only(new: Memory, before: Memory) -> Memory:
    """What came after a change, and of classes that it shows none of, what was there before."""
    lost = new.targets.sum(0) == 0
    rows = before.targets[:, lost].sum(1) > 0
    if not bool(rows.any()):
        return new
    return joined(Memory(before.base[rows], before.columns[:, rows], before.targets[rows]), new)
