"""One page on a fit: what was chosen and why, how good it is, what is doubtful, how to use it. It needs no
network and no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapt.adapter.labelling import doubtful_labels
from adapt.compare.figures.reliability import reliability_points
from adapt.errors import AdaptError
from adapt.own_data.answer import Answer, Evaluation
from adapt.own_data.cost import InferenceCost
from adapt.own_data.retraining import Retraining
from adapt.own_data.score import Score, least_sure
from adapt.own_data.trial import Trial
from adapt.version import __version__
from tasks.own import Labelled
from tasks.own.pictures import thumbnail
from tasks.worse import WORSE

__all__ = ["page", "suspects"]

TEMPLATE = Path(__file__).with_name("report.html.j2")
#: Examples in a list, classes in a matrix.
SHOWN, MATRIX = 12, 30
#: Characters of a text that are shown.
LONGEST = 300


def page(
    answer: Answer,
    labelled: Labelled,
    held_out: Evaluation,
    tested: Evaluation | None,
    trials: Sequence[Trial],
    reasons: Sequence[str],
    retraining: Retraining | None,
    seconds: float,
) -> str:
    """The page as HTML.

    Args:
        answer: with its information.
        labelled: what was learned from and held out.
        held_out: predictions of these examples, each by a fit without it.
        tested: predictions of test examples, if there are any.
        trials, reasons: of methods besides the head.
        retraining: what it would take.
        seconds: that everything took.

    Raises:
        AdaptError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise AdaptError("the page needs Jinja: pip install jinja2") from error
    shown = tested or held_out
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    about, known = answer.about, shown.reliability()
    unsure, doubtful = _doubts(labelled, held_out)
    return template.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        about=about,
        cost=InferenceCost(**about["inference"]).sentence(),
        answer=answer,
        reader=answer.reader,
        version=__version__,
        n=about["examples"],
        notes=labelled.examples.notes,
        score=shown.score,
        scored_on=about["scored_on"],
        held_out=held_out.score if tested is not None else None,
        mistakes=shown.mistakes[:SHOWN],
        matrix=_matrix(shown),
        unsure=unsure,
        doubtful=doubtful,
        trials=trials,
        reasons=reasons,
        retraining=retraining,
        seconds=seconds,
        test_notes=() if tested is None else tested.notes,
        scatter=_scatter(shown),
        worse=_worse(about["worse"]),
        reliability=[] if known is None else reliability_points(known.top),
    )


def _worse(found: dict[str, Any]) -> dict[str, Any]:
    return {name: Score(**kept) for name, kept in found.items()} | {"what": WORSE} if found else {}


def suspects(held_out: Evaluation) -> np.ndarray:
    """Rows of ``held_out`` predictions whose label looks wrong, the most doubtful first; none of values."""
    predictions = held_out.predictions
    if predictions.probabilities is None:
        return np.empty(0, np.int64)
    place = {name: position for position, name in enumerate(predictions.classes)}
    labels = np.array([place[str(name)] for name in held_out.truth], np.int64)
    return doubtful_labels(predictions.probabilities, labels, SHOWN)


def _doubts(labelled: Labelled, held_out: Evaluation) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Examples that the fit is least sure of, and those whose label looks wrong."""
    probabilities = held_out.predictions.probabilities
    if probabilities is None:
        off = np.abs(np.asarray(held_out.predictions.labels) - np.asarray(held_out.truth))
        worst = np.argsort(-off, kind="stable")[:SHOWN]
        return [_example(labelled, int(row), held_out) for row in worst], []
    return (
        [_example(labelled, int(row), held_out) for row in least_sure(probabilities, SHOWN)],
        [_example(labelled, int(row), held_out) for row in suspects(held_out)],
    )


def _example(labelled: Labelled, row: int, evaluation: Evaluation) -> dict[str, Any]:
    examples, predictions = labelled.examples, evaluation.predictions
    text = examples.shown[row]
    image = None
    if isinstance(examples.x, np.ndarray) and examples.x.ndim == 4:
        image = base64.b64encode(thumbnail(np.asarray(examples.x[row]))).decode()
    ordered = None
    if predictions.probabilities is not None:
        best = np.argsort(-predictions.probabilities[row], kind="stable")[:2]
        ordered = [(predictions.classes[c], float(predictions.probabilities[row, c])) for c in best]
    return {
        "name": examples.names[row],
        "text": text if len(text) <= LONGEST else f"{text[:LONGEST]} …",
        "image": image,
        "label": evaluation.truth[row],
        "predicted": predictions.labels[row],
        "best": ordered,
    }


def _matrix(evaluation: Evaluation) -> dict[str, Any] | None:
    """How often a class (row) was taken for another (column); of many those that are mistaken most."""
    if evaluation.predictions.probabilities is None:
        return None
    classes = [*evaluation.predictions.classes]
    if len(classes) > MATRIX:
        often: dict[str, int] = {}
        for label, instead, count in evaluation.mistakes:
            for name in (label, instead):
                often[name] = often.get(name, 0) + count
        classes = sorted(sorted(often, key=lambda name: -often[name])[:MATRIX])
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for predicted, truth in zip(evaluation.predictions.labels, evaluation.truth, strict=True):
        if str(predicted) in place and str(truth) in place:
            counts[place[str(truth)], place[str(predicted)]] += 1
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    return {
        "classes": classes,
        "rows": counts.tolist(),
        "shares": (counts / totals).tolist(),
        "some": len(classes) < len(evaluation.predictions.classes),
    }


def _scatter(evaluation: Evaluation) -> list[tuple[float, float]] | None:
    """Predicted over true values, in per cent of the plot."""
    if evaluation.predictions.probabilities is not None:
        return None
    truth, predicted = np.asarray(evaluation.truth, float), np.asarray(evaluation.predictions.labels, float)
    low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
    scale = 100 / (high - low) if high > low else 0
    rows = np.linspace(0, len(truth) - 1, min(500, len(truth))).astype(int)
    return [
        (round(float((truth[r] - low) * scale), 2), round(float((predicted[r] - low) * scale), 2))
        for r in rows
    ]
