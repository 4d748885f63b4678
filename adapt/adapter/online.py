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

from adapt.adapter.calibration import Calibration, representable
from adapt.adapter.inputs import Examples, Labels, as_targets, label_classes, no_other
from adapt.adapter.loaders import paired
from adapt.adapter.memory import joined, kept, memory_of, newest, refitted
from adapt.adapter.problem import Memory
from adapt.adapter.record import AdapterRecord, TaskRecord
from adapt.adapter.uncertainty import (
    known,
    linearised,
    moving_features,
    outputs_of,
    predicted,
    predictive_of,
)
from adapt.checks import between, check_setting
from adapt.errors import AdaptError
from adapt.heads import Direct, one_hot
from adapt.inner import Loss
from adapt.inner.change import Watch, fresh, watched
from adapt.inner.posterior import Posterior, condition, forgotten, innovation
from adapt.inner.tails import p_value
from adapt.precision import outside_autocast

__all__ = ["LEVEL", "OnChange", "Surprise", "surprise_of", "updated"]

Task = TypeVar("Task", bound=TaskRecord)
OnChange = Literal["ignore", "forget"]
#: A p-value below which a task counts as changed.
LEVEL = 1e-4
#: Draws of labels by which a p-value is found where there is no formula; the least one is 1 over one more.
DRAWS = 19_999
#: Why a label must be a class of the task.
NO_OUTPUT = "the network has no output for it. A head that is fitted, such as heads.Logistic(), can learn it"


@dataclass(frozen=True)
class Surprise:
    """How little the labels of further examples fit what is known of the task.

    Attributes:
        statistic: regression: the normalised innovation squared; classes: −log p of the labels, a sum.
        p_value: the probability of one as large if the examples are of the same task.
    """

    statistic: float
    p_value: float


def surprise_of(task: TaskRecord, x: Examples, y: Labels | None) -> Surprise:
    """Of labels ``y`` for ``x [n, …]``, taken together.

    Raises:
        AdaptError: shapes, values or labels that cannot be used, or a task without a posterior.
    """
    posterior = known(task)
    x, y = paired(x, y)
    if not task.adapter.loss.regression:
        probabilities = predictive_of(task, x, None).probabilities
        return _of_classes(probabilities, y, task.classes_)
    examples = task.adapter.examples(x)
    targets = _targets(task, y, len(examples))
    return _of_values(task.adapter.calibration, posterior, *linearised(task, examples, posterior), targets)


def _of_values(
    calibration: Calibration | None, posterior: Posterior, outputs: Tensor, columns: Tensor, targets: Tensor
) -> Surprise:
    found = float(innovation(posterior, outputs, columns, targets))
    return Surprise(found, p_value(found, targets.numel(), calibration.tail if calibration else 0.0))


def _of_classes(probabilities: np.ndarray, y: Labels | None, classes: np.ndarray) -> Surprise:
    if not len(probabilities):
        raise AdaptError("x holds no examples: of none there is no surprise")
    every, truth = label_classes(y, len(probabilities), classes)
    if len(every) > len(classes):  # one that the task does not know
        return Surprise(float("inf"), 0.0)
    losses = -np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float64).tiny))  # [n, C]
    seen = losses[np.arange(len(truth)), truth].sum()
    generator, sums = np.random.default_rng(0), np.zeros(DRAWS)
    for row, chances in zip(losses, probabilities.astype(np.float64).cumsum(1), strict=True):
        label = np.searchsorted(chances, chances[-1] * generator.random(DRAWS), side="right")
        sums += row[np.minimum(label, len(row) - 1)]
    more = int((sums >= seen * (1 - 1e-9)).sum())
    return Surprise(float(seen), (1 + more) / (1 + DRAWS))


def updated(
    task: Task, x: Examples, y: Labels | None, forget: float, on_change: OnChange, level: float
) -> Task:
    """See :meth:`adapt.FittedTask.partial_fit`."""
    if on_change not in ("ignore", "forget"):
        raise AdaptError(f"on_change={on_change!r}: choose ignore or forget")
    forget = check_setting("forget", forget, between(0, 1, "a share from 0 to 1 of what was known counts on"))
    level = check_setting("level", level, between(0, 1, "a p-value from 0 to 1"))
    known(task)
    x, y = paired(x, y)
    examples, notices = task.adapter.examples(x), on_change == "forget"
    if isinstance(task.adapter.head, Direct):
        return _without_head(task, examples, y, forget, notices, level)
    return _with_memory(task, examples, y, forget, level if notices else None)


def _without_head(
    task: Task, examples: Tensor, y: Labels | None, forget: float, notices: bool, level: float
) -> Task:
    """``task`` after more examples, of which nothing is kept but what they say of z; where all count the
    same, also themselves, if it keeps them."""
    posterior, adapter, memory = known(task), task.adapter, None
    targets = _targets(task, y, len(examples))
    learn = partial(_learned, adapter, targets, forget)
    if adapter.loss.regression and notices:
        posterior, watch = watched(
            posterior, task.watch or Watch(), partial(linearised, task, examples), learn, targets
        )
        return _moved(task, posterior, watch=watch, memory=None)
    outputs, columns = linearised(task, examples, posterior)
    changed = False
    if notices:
        probabilities = predicted(task, posterior, outputs, columns).probabilities
        changed = _of_classes(probabilities, y, task.classes_).p_value < level
    if changed:
        posterior = fresh(posterior)
        outputs, columns = linearised(task, examples, posterior)
    if task.memory is not None and (changed or forget == 1):
        new = memory_of(outputs, columns, targets, posterior.z)
        memory = new if changed else joined(task.memory, new, adapter.loss)
    return _moved(task, learn(posterior, outputs, columns), memory=memory)


def _learned(
    adapter: AdapterRecord,
    targets: Tensor,
    forget: float,
    posterior: Posterior,
    outputs: Tensor,
    columns: Tensor,
) -> Posterior:
    """``posterior`` after examples with ``outputs [n, C]``, ``columns [k, n, C]`` and ``targets [n, C]``.

    Where nobody has learned how sure it may be, values make it as sure as all of them did at once: least
    squares grow by the innovation, (2ℓ + zᵀΛ⁻¹z)_new = (2ℓ + zᵀΛ⁻¹z)_old + rᵀ(I + J A⁻¹ Jᵀ)⁻¹r.
    """
    loss, one = adapter.loss, torch.ones_like(posterior.spread)
    sharpness = one if loss.regression else adapter.state.log_sharpness.exp().to(one)
    after = condition(posterior, sharpness * outputs, sharpness * columns, targets, loss, forget)
    if adapter.calibration is not None:
        return after._replace(spread=adapter.calibration.spread_of(after.examples))
    if not loss.regression:
        return after
    before = forgotten(posterior, forget)._replace(spread=one, noise=one)
    grown = innovation(before, outputs, columns, targets) / targets.shape[1]
    found = (posterior.spread * before.examples + grown) / after.examples.clamp(min=1)
    found = representable(found)
    return after._replace(spread=found, noise=found)


def _moved(task: Task, posterior: Posterior, **more: Any) -> Task:
    with outside_autocast(posterior.z.device):
        parameters = task.adapter.subspace.parameters(posterior.z)
    return replace(task, parameters=parameters, z=posterior.z, posterior=posterior, **more)


def _targets(task: TaskRecord, y: Labels | None, n: int) -> Tensor:
    """Of n further examples of a task whose classes, or numbers per example, do not change ``[n, C]``."""
    like = task.z
    if not task.adapter.loss.regression:
        place = no_other(y, n, task.classes_, NO_OUTPUT)
        return one_hot(torch.from_numpy(place).to(like.device), task.outputs, like.dtype)
    targets = as_targets(y, n, like, task.adapter.loss)[1]
    if targets.shape[1] != task.outputs:
        raise AdaptError(f"y has {targets.shape[1]} numbers per example, and the task {task.outputs}")
    return targets


def _with_memory(task: Task, examples: Tensor, y: Labels | None, forget: float, level: float | None) -> Task:
    """``task``, whose head is fitted, after more examples; classes may be new. ``level``: the p-value below
    which it has changed, None: never."""
    if task.memory is None:
        raise AdaptError(
            f"the head {type(task.adapter.head).__name__} is fitted to all examples, and this task kept "
            "none: use adapter.fit(x, y, keep=True)"
        )
    posterior, loss = known(task), task.adapter.loss
    before, targets, classes = _with_classes(task, task.memory, y, len(examples))
    features, columns = moving_features(task.adapter, examples, posterior)
    new, changed = memory_of(features, columns, targets, posterior.z), False
    if level is not None:
        there = outputs_of(task, features, columns)
        found = (
            _of_values(task.adapter.calibration, posterior, *there, targets)
            if loss.regression
            else _of_classes(predicted(task, posterior, *there).probabilities, y, task.classes_)
        )
        changed = found.p_value < level
    if changed:
        memory, posterior = _only(new, before, loss), fresh(posterior)
    else:
        memory = joined(newest(before, forget, loss) if forget < 1 else before, new, loss)
    head_state, posterior = refitted(task.adapter, memory, posterior)
    return _moved(
        task,
        posterior,
        head_state=head_state,
        memory=memory,
        classes_=classes,
        outputs=targets.shape[1],
    )


def _with_classes(
    task: TaskRecord, memory: Memory, y: Labels | None, n: int
) -> tuple[Memory, Tensor, np.ndarray]:
    """``memory`` with a column for every class, the targets ``[n, C]`` of further examples, the classes."""
    if task.adapter.loss.regression:
        return memory, _targets(task, y, n), task.classes_
    classes, place = label_classes(y, n, task.classes_)
    like = memory.targets
    old = torch.from_numpy(np.searchsorted(classes, task.classes_)).to(like.device)
    wider = like.new_zeros(len(like), len(classes))
    wider[:, old] = like
    targets = one_hot(torch.from_numpy(place).to(like.device), len(classes), like.dtype)
    return memory._replace(targets=wider), targets, classes


def _only(new: Memory, before: Memory, loss: Loss) -> Memory:
    """What came after a change, and of classes that it shows none of, what was there before."""
    if loss.regression:
        return new
    lost = new.targets.sum(0) == 0
    rows = before.targets[:, lost].sum(1) > 0
    return joined(kept(before, rows), new, loss) if bool(rows.any()) else new
