"""The regression gate on labelled examples: of versions that ``adapt fit`` made."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from adapt.app.progress import line
from adapt.compare import ACCURACY, MSE
from adapt.compare.gate import CLASS, GROUP, TOGETHER, TRUST, Gate, judge
from adapt.compare.gate_scores import BRIER, NLL
from adapt.errors import AdaptError
from adapt.own_data import Answer
from adapt.own_data.groups import divided
from adapt.tracking.registry import Registry, Version, explained
from tasks.own import Labelled

__all__ = ["gate_of_data"]

#: With fewer examples the gate would often refuse what is as good, and of very few accept what is not.
EXAMPLES = 600


def gate_of_data(
    given: Namespace, registry: Registry, champion: Version, challenger: Version
) -> tuple[Gate, str]:
    """Both versions on the examples of ``given.data``, each of which counts as a task does, and in a few
    words where they are from.

    Raises:
        AdaptError: a version that ``adapt fit`` did not make, examples that cannot be read, or versions of
            tasks of different kind.
    """
    with explained(f"model '{registry.name}'"):
        names = [f"models:/{registry.name}/{version.number}" for version in (champion, challenger)]
        answers = [
            Answer.of(registry.load(version.number), name)
            for version, name in zip((champion, challenger), names, strict=True)
        ]
    old, new = answers
    if (old.reader.kind, old.reader.regression) != (new.reader.kind, new.reader.regression):
        raise AdaptError("the champion and the challenger read different data: no examples judge both")
    parts = [answer.read(given.data, labelled=True) for answer in answers]
    if parts[0].examples.names != parts[1].examples.names:
        raise AdaptError(f"the champion and the challenger do not read the same examples of {given.data}")
    if (count := len(parts[0])) < EXAMPLES and not given.allow_few_tasks:
        raise AdaptError(
            f"{given.data} holds {count} examples: fewer than {EXAMPLES} show little; add --allow-few-tasks "
            "if that is enough"
        )
    by = divided(old.reader, Path(given.data).expanduser(), parts[0].examples, given.group)
    scores = [_scores(answer, part) for answer, part in zip(answers, parts, strict=True)]
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row, name in enumerate(parts[0].examples.names):
        both = [(float(each[TOGETHER][row])) for each in scores]
        keys = [(TOGETHER, ""), *((GROUP, f"{column}={of[name]}") for column, of in by.items())]
        if not old.reader.regression:
            keys.append((CLASS, str(parts[0].y[row])))
        for key in keys:
            pairs[key].append((both[0], both[1]))
    for asked in scores[0].keys() - {TOGETHER}:
        pairs[TRUST, asked] = [*zip(scores[0][asked].tolist(), scores[1][asked].tolist(), strict=True)]
    metric = MSE if old.reader.regression else ACCURACY
    return judge(pairs, metric, given.tolerance), f"{len(parts[0])} examples of {Path(given.data).name}"


def _scores(answer: Answer, data: Labelled) -> dict[str, np.ndarray]:
    """Of each example ``[n]``: what it is scored by, and of classes how probable the right one was."""
    found = answer.answered(data.examples, line)
    if answer.reader.regression:
        errors = np.asarray(found.labels, np.float64) - np.asarray(data.y, np.float64)
        return {TOGETHER: np.square(errors)}
    assert found.probabilities is not None
    truth = [*map(str, data.y)]
    place = {name: column for column, name in enumerate(found.classes)}
    hit = torch.zeros(len(truth), len(place), dtype=torch.float64)
    for row, name in enumerate(truth):
        if name in place:  # else it is of no class that this version knows
            hit[row, place[name]] = 1.0
    p = torch.from_numpy(found.probabilities).double()
    own = (p * hit).sum(1).clamp(min=float(np.finfo(np.float32).tiny))
    right = np.array([a == b for a, b in zip(found.labels, truth, strict=True)], np.float64)
    return {TOGETHER: right, NLL: -own.log().numpy(), BRIER: (p - hit).square().sum(1).numpy()}
