"""Whether what a model is asked is still like what it was fitted to: how strange each example is to it.

    surprise    −log p(label), of labelled examples; of values, how far off a prediction was
    unsure      −log max_c p(c)
    far         the distance to the nearest class (:mod:`adapt.adapter.nearness`)

What is usual is how strange the model's own examples are, each held out. One that is held out meets a model
of fewer examples and is a little stranger for it than a new one, so that alarms are, if anything, rarer than
promised.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.nearness import Nearness
from adapt.drift import FALSE_ALARMS, Monitor
from adapt.errors import AdaptError
from adapt.heads.base import one_hot
from adapt.own_data.answer import Answer
from adapt.own_data.passes import Say, silent

__all__ = ["USUAL", "Watching", "kept_scores", "usual_of"]

#: Under which a fit keeps how strange its own examples are.
USUAL = "usual"
#: Of how many of them that is kept, and by how many the distance to classes is measured.
KEPT, MEASURED = 1000, 2000
#: Fewest usual examples that are given.
FEW = 10
#: Signals of which a fit keeps what is usual.
KEEPS = ("surprise", "unsure")


class Watching:
    """A model, and a monitor of what it is asked.

    Args:
        answer: the model.
        usual: data of the same form that nothing was learned from, and of which nothing is wrong; None: the
            model's own examples say what is usual.
        labelled: whether what is looked at has labels, and ``usual`` too.
        false_alarms: the chance of an alarm, ever, if nothing changes.

    Attributes:
        usual: how strange examples are of which nothing is wrong, by signal.
        monitor: what looks at them.

    Raises:
        AdaptError: nothing says what is usual.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        usual: str | os.PathLike[str] | None = None,
        labelled: bool = False,
        false_alarms: float = FALSE_ALARMS,
        say: Say = silent,
    ) -> None:
        self.answer = answer
        self._near, known = _nearness(answer)
        if usual is None:
            known |= {name: np.asarray(kept) for name, kept in kept_scores(answer).items()}
        else:
            data = answer.read(usual, labelled)
            features, outputs = answer.seen(data.examples, say)
            if len(features) < FEW:
                raise AdaptError(f"{usual} holds {len(features)} examples: give {FEW} or more")
            if self._near is None:
                one = features.new_ones(len(features), 1)
                self._near = Nearness.of(features, one)
                known = {"far": -self._near.left_out(features, one).numpy()}
            else:
                known = {"far": -self._near.near(features).numpy()}
            known |= _strange(answer, outputs, data.y if labelled else None)
        self.usual = known
        looked = {name: [*scores] for name, scores in known.items() if labelled or name != "surprise"}
        if not looked:
            raise AdaptError(
                "without labels there is nothing that this model can be watched by: give examples of which "
                "nothing is wrong and that it was not fitted to (--usual DATA), labels (--labelled), or fit "
                "your data again"
            )
        if self._near is None:
            say("note: how far examples are from the classes is not known: this model keeps none of its own")
        self.monitor = Monitor(looked, false_alarms=false_alarms)

    def see(self, features: Tensor, outputs: Tensor, y: Any = None) -> None:
        """Examples with ``features [n, D]`` and ``outputs [n, C]``, in the order in which they came, and
        their labels ``[n]`` if those are known."""
        strange = self.strange(features, outputs, y)
        for row in range(len(features)):
            self.monitor.see({name: float(scores[row]) for name, scores in strange.items()})

    def strange(self, features: Tensor, outputs: Tensor, y: Any = None) -> dict[str, np.ndarray]:
        """How strange examples are, by signal ``[n]``."""
        found = _strange(self.answer, outputs, y)
        if self._near is not None:
            found["far"] = -self._near.near(features).numpy()
        return found

    def look(self, path: str | os.PathLike[str], labelled: bool, say: Say = silent) -> None:
        """All examples of a file in its order, or of a folder in that of their names.

        Raises:
            AdaptError: they cannot be read.
        """
        data = self.answer.read(path, labelled)
        features, outputs = self.answer.seen(data.examples, say)
        rows = np.arange(len(data.examples))
        if self.answer.reader.kind == "pictures":  # of labelled ones the folder is the class, not the time
            rows = np.argsort([os.path.basename(name) for name in data.examples.names], kind="stable")
        y = np.asarray(data.y)[rows] if labelled else None
        self.see(features[rows], outputs[rows], y)


def usual_of(probabilities: np.ndarray | None, values: Any, truth: Any, place: np.ndarray) -> dict[str, Any]:
    """What a fit keeps of its examples, each predicted without itself, as JSON holds it.

    Args:
        probabilities: of classes ``[n, C]``; None: of ``values [n]``, with their ``truth [n]``.
        place: of the class of each in the columns ``[n]``.
    """
    rows = np.random.default_rng(0).permutation(len(place if probabilities is not None else values))[:KEPT]
    if probabilities is None:
        found = {"surprise": np.abs(np.asarray(values) - np.asarray(truth))[rows]}
    else:
        logs = _logs(probabilities[rows])
        found = {"surprise": logs[np.arange(len(rows)), place[rows]], "unsure": logs.min(1)}
    return {name: [float(f"{score:.6g}") for score in scores] for name, scores in found.items()}


def _strange(answer: Answer, outputs: Tensor, y: Any) -> dict[str, np.ndarray]:
    """By signal ``[n]``; what is not known of examples without labels is left out."""
    if answer.reader.regression:
        values = outputs[:, 0].double().cpu().numpy()
        return {} if y is None else {"surprise": np.abs(values - np.asarray(y, np.float64))}
    logs = _logs(outputs.softmax(-1).cpu().numpy())
    found = {"unsure": logs.min(1)}
    if y is not None:
        place = {name: column for column, name in enumerate(answer.classes)}
        columns = np.array([place.get(str(label), -1) for label in y])
        own = logs[np.arange(len(logs)), columns]
        found["surprise"] = np.where(columns < 0, np.inf, own)  # of a class that it does not know
    return found


def _logs(probabilities: np.ndarray) -> np.ndarray:
    """−log p of float32 probabilities, whatever they are of: 0 of one as of another."""
    return -np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


def _nearness(answer: Answer) -> tuple[Nearness | None, dict[str, np.ndarray]]:
    """Of the examples that are kept, and how far each of them is, left out; not where the network was moved,
    as it was moved by all of them."""
    if answer.support is None or answer.about.get("method") != "head":
        return None, {}
    features, positions = answer.support.features, answer.support.positions
    counts = torch.bincount(positions, minlength=len(answer.classes))
    if bool((counts == 0).any()):
        return None, {}
    order = torch.argsort(positions, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[positions[order]]
    rows = torch.argsort(rank, stable=True)[: max(MEASURED, 2 * len(counts))].sort().values
    targets = one_hot(positions[rows], len(counts))
    near = Nearness.of(features[rows], targets)
    # The classes are measured by as many of each; what is usual has them as often as they come.
    far = -near.near(features)
    several = (targets @ targets.sum(0)) > 1
    far[rows[several]] = -near.left_out(features[rows], targets)[several]
    drawn = torch.randperm(len(far), generator=torch.Generator().manual_seed(0))
    drawn = drawn[~torch.isin(drawn, rows[~several])][:MEASURED]  # of one alone nothing is left without it
    return (near, {"far": far[drawn].numpy()}) if len(drawn) else (None, {})


def kept_scores(answer: Answer) -> dict[str, list[float]]:
    """What a fit kept of how strange its own examples are, by signal; empty of earlier versions.

    Raises:
        AdaptError: it is nothing that a fit keeps.
    """
    kept = answer.about.get(USUAL)
    if kept is None:
        return {}
    if not isinstance(kept, dict) or not all(
        name in KEEPS and isinstance(scores, list) and all(type(score) in (int, float) for score in scores)
        for name, scores in kept.items()
    ):
        raise AdaptError("what is usual is not kept as this version writes it: fit your data again")
    return kept
