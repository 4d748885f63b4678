"""Which labels an example may have, and whether it is of any class, by how the model's own examples did, each
predicted without itself.

    set(x) = { c : −log p(c | x) ≤ s_(j) } ,  j = ⌈(n + 1) coverage⌉ ,  all classes where j > n
    p-value(x) = (1 + #{ i : u_i ≥ u(x) }) / (n + 1)       u: how strange, ``far`` if known, else ``unsure``

Vovk, Gammerman, Shafer (2005), *Algorithmic Learning in a Random World*. Predictions without a fold of the
examples stand for those without one: like the jackknife in :mod:`adapt.adapter.conformal` this is no
guarantee, and errs on the safe side, as a fold less is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from adapt.checks import Number, check_setting
from adapt.errors import AdaptError
from adapt.own_data.answer import Answer, Predictions
from adapt.own_data.passes import Say, silent
from adapt.own_data.watching import Watching, kept_scores
from tasks.own import OwnExamples

__all__ = ["believed"]

#: Between the labels of a set.
BETWEEN = "|"


def believed(
    answer: Answer,
    examples: OwnExamples,
    *,
    coverage: float | None = None,
    reject: float | None = None,
    say: Say = silent,
) -> Predictions:
    """Predictions with further columns: ``set``, which holds the right label of a share ``coverage`` of
    examples, and ``refused``, ``yes`` of what is of no class, which a share ``reject`` of the classes' own
    examples is taken for.

    Raises:
        AdaptError: shares that are none; a regression; a model that does not say what is usual.
    """
    share = Number(above=0, below=1, why="a share of the examples")
    for name, value in (("--sets", coverage), ("--reject", reject)):
        if value is not None:
            check_setting(name, value, share)
    if answer.reader.regression:
        raise AdaptError("--sets and --reject are of classes, and this model predicts values")
    watching = None if reject is None else Watching(answer, say=say)
    features, outputs = answer.seen(examples, say)
    found = answer.predicted(examples, outputs)
    assert found.probabilities is not None
    more = {}
    if coverage is not None:
        usual = _usual(kept_scores(answer), "surprise")
        more["set"] = _sets(found.probabilities, found.classes, usual, coverage)
    if watching is not None and reject is not None:
        strange = watching.strange(features, outputs)
        name = "far" if "far" in strange else "unsure"
        usual = np.sort(_usual(watching.usual, name))
        least = usual * (1 - 1e-9)  # what is as strange counts as it does
        above = len(usual) - np.searchsorted(least, strange[name], side="left")
        chances = (1 + above) / (len(usual) + 1)
        more["refused"] = ["yes" if chance <= reject else "" for chance in chances]
    return replace(found, more=more)


def _usual(usual: Mapping[str, Any], signal: str) -> np.ndarray:
    if signal not in usual:
        raise AdaptError(
            f"this model does not say how strange its own examples are ({signal}), as it was fitted by an "
            "earlier version: fit your data again"
        )
    return np.asarray(usual[signal])


def _sets(p: np.ndarray, classes: object, usual: np.ndarray, coverage: float) -> list[str]:
    scores = np.sort(usual)
    place = math.ceil((len(scores) + 1) * coverage - 1e-9)
    most = scores[place - 1] if place <= len(scores) else np.inf
    # What is as improbable as can be written stands for all that is more so.
    least = math.exp(-most) * (1 - 1e-6) if most < -math.log(np.finfo(np.float32).tiny) else -1.0
    names = np.asarray(classes)
    return [BETWEEN.join(names[row >= least]) for row in p]
