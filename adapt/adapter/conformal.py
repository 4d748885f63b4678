"""Sets of labels that hold the right one as often as was asked, and examples that belong to no class.

    s_i = 1 − p_i(y_i) ,  p_i of the task without support example i
    set(x) = { c : 1 − p(c | x) ≤ s_(j) } ,   j = ⌈(n + 1) coverage⌉ ,  all classes where j > n
    p-value(x) = (1 + #{ i : a_i ≤ a(x) }) / (n + 1) ,  a how well an example fits the class that it fits best

Vovk, Gammerman, Shafer (2005), *Algorithmic Learning in a Random World*; the score is that of Sadinle, Lei,
Wasserman (2019), *Least Ambiguous Set-Valued Classifiers with Bounded Error Levels*, section 2. What an
example scores without itself stands for what a new one scores: the jackknife, which is no guarantee (Barber,
Candès, Ramdas, Tibshirani 2021, *Predictive Inference with the Jackknife+*, section 1), and errs on the safe
side where a class has few examples, as it is poorer by one without them.

    probability   a = max_c log p(c)                       Hendrycks, Gimpel (2017)
    energy        a = log Σ_c exp o_c                      Liu, Wang, Owens, Li (2020), equation 4
    distance      a = −min_c (f − μ_c)ᵀ Σ⁻¹ (f − μ_c)      Lee, Lee, Lee, Shin (2018), see adapter/nearness.py

``distance`` is the default: on validation classes of photographs and requests it tells what is of another
world best, and what is of other classes about as well as the others.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.labelling import held_out, looked_back_at
from adapt.adapter.nearness import Nearness
from adapt.adapter.record import TaskRecord
from adapt.adapter.temperature import temperature_of
from adapt.checks import Number, check_setting
from adapt.errors import AdaptError
from adapt.heads import is_transductive
from adapt.precision import double, outside_autocast

__all__ = ["Fit", "how_well", "p_values", "prediction_sets", "tempered_probabilities"]

#: How well an example fits a class.
Fit = Literal["probability", "energy", "distance"]


def prediction_sets(task: TaskRecord, logits: Tensor, coverage: float) -> np.ndarray:
    """See :meth:`adapt.FittedTask.predict_set`, of ``logits [m, C]``."""
    coverage = check_setting("coverage", coverage, Number(above=0, below=1, why="a share of the examples"))
    _check(task)
    without, labels = _known(task)
    missing = 1 - without.softmax(1).gather(1, labels[:, None]).squeeze(1)  # [n]
    place = math.ceil((len(missing) + 1) * coverage - 1e-9)
    if place > len(missing):
        return np.ones(logits.shape, dtype=bool)
    most = missing.sort().values[place - 1]
    found: np.ndarray = (1 - _scaled(task, logits).softmax(1) <= most + 1e-12).cpu().numpy()
    return found


def how_well(task: TaskRecord, features: Tensor, logits: Tensor, fit: Fit) -> tuple[Tensor, Tensor]:
    """How well each example that ``task`` keeps fits a class without itself ``[n]``, and those of
    ``features [m, D]`` and ``logits [m, C]`` do ``[m]``; see :func:`p_values`."""
    _check(task)
    if fit != "distance":
        return _fits(_known(task)[0], fit), _fits(_scaled(task, logits), fit)
    memory = looked_back_at(task)
    seen, targets = memory.at(task.z), memory.targets
    with torch.no_grad(), outside_autocast(features.device):
        classes = Nearness.of(seen, targets)
        return classes.left_out(seen, targets), classes.near(features)


def p_values(task: TaskRecord, features: Tensor, logits: Tensor, fit: Fit) -> np.ndarray:
    """See :meth:`adapt.FittedTask.belongs`, of ``features [m, D]`` and ``logits [m, C]``."""
    if fit not in get_args(Fit):
        raise AdaptError(f"fit={fit!r}: choose {', '.join(get_args(Fit))}")
    own, new = how_well(task, features, logits, fit)
    rounding = 1e-9 * (1 + new.abs())  # what is as near as an example that is held out counts as it does
    ranks = torch.searchsorted(own.sort().values, new + rounding, right=True)
    found: np.ndarray = (double(1 + ranks) / (len(own) + 1)).cpu().numpy()
    return found


def tempered_probabilities(task: TaskRecord, logits: Tensor) -> np.ndarray:
    """See :meth:`adapt.FittedTask.predict_proba`, of ``logits [m, C]``."""
    _check(task)
    found = (_scaled(task, logits) / temperature_of(*_known(task))).softmax(1)
    tempered: np.ndarray = found.to(logits).cpu().numpy()
    return tempered


def _fits(logits: Tensor, fit: Fit) -> Tensor:
    return logits.logsumexp(1) if fit == "energy" else logits.log_softmax(1).amax(1)


def _known(task: TaskRecord) -> tuple[Tensor, Tensor]:
    """Logits of the examples that are kept, each without itself ``[n, C]``, and their labels ``[n]``."""
    return double(held_out(task)), looked_back_at(task).targets.argmax(1)


def _scaled(task: TaskRecord, logits: Tensor) -> Tensor:
    """With the temperature that those have that are held out."""
    return double(logits) / (1.0 if task.posterior is None else task.posterior.noise)


def _check(task: TaskRecord) -> None:
    if task.adapter.loss.regression:
        raise AdaptError("a regression task has no classes: use predict(x, return_std=True)")
    if is_transductive(task.adapter.head):
        raise AdaptError(
            f"the head {type(task.adapter.head).__name__} predicts examples together: use one that predicts "
            "each alone, such as heads.Logistic()"
        )
    if task.memory is None:
        raise AdaptError("this task kept no examples to compare with: use adapter.fit(x, y, keep=True)")
    if bool((task.memory.targets.sum(0) < 2).any()):
        raise AdaptError(
            "a class has a single example, of which nothing is left without it: give two of every class"
        )
