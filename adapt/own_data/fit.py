"""From a folder or a file to a fitted task: read, choose by held-out examples, fit on all, tell how good."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.adapter.labelling import as_words
from adapt.checks import check_setting, least
from adapt.errors import AdaptError
from adapt.heads import Head, Ridge
from adapt.own_data.alone import fit_alone, fit_head, in_units
from adapt.own_data.answer import INFO, Answer, Evaluation, Predictions, read
from adapt.own_data.cost import inference_cost
from adapt.own_data.groups import divided, groups_of
from adapt.own_data.networks import Network, network_for
from adapt.own_data.others import try_others
from adapt.own_data.passes import ROWS, Say, as_inputs, rows_of, silent
from adapt.own_data.prepared import MOVED, Prepared, prepare
from adapt.own_data.report import page, suspects
from adapt.own_data.retraining import retraining
from adapt.own_data.score import mistakes, score_classes, score_values
from adapt.own_data.support import LARGEST, Support, features_of
from adapt.own_data.trial import METHODS, MOST, PASSES, Trial, adapter_for, try_out
from adapt.own_data.watching import USUAL, usual_of
from adapt.own_data.words import in_options
from adapt.own_data.worse import on_worse
from tasks.own import Labelled, Learned, kind_of, learn

__all__ = ["fit_data"]


def fit_data(
    data: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    target: str | None = None,
    text: str | None = None,
    method: str = "auto",
    seconds: float | None = None,
    backbone: str | None = None,
    kind: str = "auto",
    ignore: Sequence[str] = (),
    categorical: Sequence[str] = (),
    encoding: str = "utf-8",
    decimal: str = ".",
    groups: Sequence[str] = (),
    seed: int = 0,
    say: Say = silent,
) -> Answer:
    """Fit the data at ``data`` with all its classes and all its examples.

    Args:
        data: a folder or zip file with one folder of pictures per class; a CSV, TSV or JSON-lines file of
            texts; or a CSV file of other columns.
        test: labelled examples of the same form that nothing is learned from; None: how good the fit is, is
            estimated by leaving out a part of the examples at a time.
        target, text: columns; None: found out.
        method: ``head``: a convex head on the network as it is or at its start; ``forward``: moved by forward
            gradients; ``backprop``: by backpropagation; ``auto``: whichever held-out examples speak for.
        seconds: what fitting may take; None: ``auto`` tries other methods for as long as one pass of the
            network over all examples took.
        backbone: a network by its name, as it is; None: the best that is there, from its start if it has one.
        kind: of what is to be predicted from a table: ``classes``, ``values`` or ``auto``.
        ignore, categorical: columns of a table that are no inputs, and whose numbers are names.
        encoding, decimal: of files.
        groups: columns, or ``"age<=25"``: whether it does as well by all groups that they make. They are
            inputs as well, unless ``ignore`` says otherwise.
        seed: of the division into parts.
        say: is told what happens, a line at a time.

    Raises:
        AdaptError: the data or the settings cannot be used; says what to do.
    """
    begun = time.perf_counter()
    if method not in METHODS:
        raise AdaptError(f"method={method} is unknown: use one of {', '.join(METHODS)}")
    if seconds is not None and not seconds > 0:
        raise AdaptError(f"time={seconds}: give seconds, more than 0")
    check_setting("seed", seed, least(0))
    path = Path(data).expanduser()
    network: Network | None = None
    found = read(partial(kind_of, path, target, text, encoding))
    if found != "table":
        network = network_for(found, backbone)
        say(network.line)
    elif backbone is not None:
        raise AdaptError(f"backbone={backbone}: a table is read as its columns are, by no pretrained network")
    options = {"size": network.recipe.size, "channels": network.recipe.channels} if network else {}
    learned: Learned = read(
        lambda: learn(
            path,
            target=target,
            text=text,
            kind=kind,
            ignore=ignore,
            categorical=categorical,
            encoding=encoding,
            decimal=decimal,
            **({key: value for key, value in options.items() if value}),
        )
    )
    held = learned.test
    if test is not None:
        held = read(lambda: learned.reader.labelled(Path(test).expanduser()))
    judged_on = path if test is None else Path(test).expanduser()
    by = divided(learned.reader, judged_on, (held or learned.train).examples, groups)
    learned = _noted(learned)
    for note in learned.train.examples.notes:
        say(f"note: {note}")
    fit = prepare(learned, network, seed, say)
    trials, reasons = try_others(fit, method, seconds, begun, say)
    for reason in reasons if seconds is not None else ():  # it was too short for these
        say(reason)
    chosen = method if method != "auto" else next((t.method for t in trials if t.pays), "head")
    task, features = _fitted(fit, chosen, say)
    return _answer(fit, task, features, chosen, trials, reasons, held, by, begun, say)


def _noted(learned: Learned) -> Learned:
    """With what there is to say about the data, in the words of options."""
    train = learned.train
    notes = [in_options(note) for note in train.examples.notes]
    if not learned.reader.regression and (few := len(train) - len(_judged(train.y))):
        notes.append(
            f"{few} classes have one {learned.reader.one} only: predicted without it, it cannot be right, so "
            "it is not counted (--test DATA measures all, test= in Python)."
        )
    return replace(learned, train=replace(train, examples=replace(train.examples, notes=tuple(notes))))


def _judged(y: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Numbers of the examples that can be predicted by a fit without them: those of a class of several."""
    _, positions, counts = np.unique([*map(str, y)], return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[positions] > 1)


def _fitted(fit: Prepared, method: str, say: Say) -> tuple[FittedTask, Tensor | None]:
    """The task, in the unit of the labels, and the features ``[n, D]`` that its head was fitted to, if they
    were computed on the way."""
    adapter = adapter_for(fit.network, method, fit.head.head, fit.reader.regression)
    features: Tensor | None = fit.features
    if method == "head":
        task = fit_alone(adapter, fit.features, fit.targets, fit.classes)
    else:
        task, features = _moved(fit, replace(adapter, rows=ROWS), method, say)
    return (in_units(task, fit.center, fit.spread) if fit.reader.regression else task), features


def _moved(fit: Prepared, adapter: FewShotAdapter, method: str, say: Say) -> tuple[FittedTask, Tensor | None]:
    """The network moved by at most :data:`MOVED` examples, and the head on all."""
    n, x = len(fit.y), fit.labelled.examples.x
    say(f"{method}: about {max(1.0, fit.seconds(PASSES[method])):.0f} s")
    rows = np.arange(n) if n <= MOVED else _spread(fit.fold, None if fit.reader.regression else fit.y)
    task = adapter.fit(as_inputs(x, rows), fit.y[rows].tolist())
    if n <= MOVED:
        return task, None
    features = _features(task, x, say)
    state = fit_head(adapter, features, fit.targets)
    return replace(task, head_state=state, classes_=fit.classes, outputs=fit.targets.shape[1]), features


def _features(task: FittedTask, x: Sequence[str] | np.ndarray, say: Say) -> Tensor:
    return torch.cat([features_of(task, part) for part in rows_of(x, say, "reading again")])


def _spread(fold: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """Numbers of about as many examples as move the network, two of every class at least, sorted."""
    order = np.argsort(fold, kind="stable")
    if y is None:
        return np.sort(order[:MOVED])
    labels, counts = np.unique(y, return_counts=True)
    each = max(2, MOVED // len(labels))
    several = labels[counts > 1]
    kept = [order[y[order] == label][:each] for label in several]
    return np.sort(np.concatenate(kept)) if len(several) > 1 else np.arange(len(y))


def _words(head: Head) -> str:
    """A head for people."""
    return f"{'ridge' if isinstance(head, Ridge) else 'logistic'} regression (l2 = {getattr(head, 'l2', '')})"


def _answer(
    fit: Prepared,
    task: FittedTask,
    features: Tensor | None,
    method: str,
    trials: list[Trial],
    reasons: list[str],
    held: Labelled | None,
    by: Mapping[str, Mapping[str, str]],
    begun: float,
    say: Say,
) -> Answer:
    seconds = time.perf_counter() - begun
    answer = Answer(task, fit.reader)
    out_of_fold, judged = _held_out(fit, method, say)
    tested = None if held is None else answer.evaluate_on(held, say)
    shown = tested or out_of_fold
    about: dict[str, Any] = {
        "reader": {"kind": fit.reader.kind, **fit.reader.to_dict()},
        "method": method,
        "examples": len(fit.y),
        "classes": len(fit.classes),
        "network": fit.network.title,
        "head": _words(fit.head.head),
        "score": shown.score.to_dict(),
        "scored_on": judged if tested is None else "a test set",
        "trust": shown.trust(),
        "groups": [groups.to_dict() for groups in groups_of(by, shown)],
        USUAL: _usual(out_of_fold),
        "trials": [trial.to_dict() for trial in trials],
        "labels_that_look_wrong": _suspects(out_of_fold),
        "seconds": seconds,
        "reading_seconds": fit.pass_seconds,
        "worse": on_worse(fit),
        "inference": inference_cost(task, fit.labelled.examples.x).to_dict(),
    }
    info = {"title": f"{fit.reader.kind.capitalize()}, by {method}", INFO: about}
    answer = Answer(replace(task, adapter=replace(task.adapter, info=info)), fit.reader)
    others = retraining(fit.network, fit.labelled.examples.x, fit.reader.regression)
    support = None
    if not fit.reader.regression and fit.features.numel() <= LARGEST:
        found = _features(task, fit.labelled.examples.x, say) if features is None else features
        support = Support(found, fit.targets.argmax(1))
    rows = np.arange(len(fit.y)) if fit.reader.regression else _judged(fit.y)
    html = page(answer, _part(fit.labelled, rows), out_of_fold, tested, trials, reasons, others, seconds)
    say(f"{method}: {shown.score.sentence()}, {about['scored_on']}")
    return replace(answer, page=html, support=support)


def _usual(held_out: Evaluation) -> dict[str, Any]:
    found = held_out.predictions
    place = {name: column for column, name in enumerate(found.classes)}
    columns = np.array([place[name] for name in held_out.truth] if place else [], np.int64)
    return usual_of(found.probabilities, found.labels, held_out.truth, columns)


def _suspects(held_out: Evaluation) -> dict[str, str]:
    """Names of examples whose label looks wrong, as JSON holds them, with what is said of each."""
    names, predicted = held_out.predictions.names, held_out.predictions.labels
    return {
        str(names[row]).encode("utf-8", "backslashreplace").decode(): as_words(
            held_out.truth[row], predicted[row]
        )
        for row in suspects(held_out)
    }


def _part(labelled: Labelled, rows: np.ndarray) -> Labelled:
    """Some of the examples, with all notes."""
    x, names, shown = labelled.examples.x, labelled.examples.names, labelled.examples.shown
    part = replace(
        labelled.examples,
        x=x[rows] if isinstance(x, np.ndarray) else [x[row] for row in rows],
        names=[names[row] for row in rows],
        shown=[shown[row] for row in rows],
    )
    return Labelled(part, [labelled.y[row] for row in rows])


def _held_out(fit: Prepared, method: str, say: Say) -> tuple[Evaluation, str]:
    """Predictions of the examples themselves, each by a fit without it; and how they came about."""
    names, outputs = fit.labelled.examples.names, fit.head.outputs
    parts = f"each predicted without its part of {len(np.unique(fit.fold))}"
    if not fit.reader.regression and not len(_judged(fit.y)):
        parts = f"since every class has one {fit.reader.one} only"
    if method != "head":
        if len(fit.y) > MOST or (not fit.reader.regression and len(fit.y) < 3 * len(fit.classes)):
            parts = f"by the head alone, {parts}"
        else:
            say(f"{method}, {parts}, to know how good it is")
            adapter = replace(
                adapter_for(fit.network, method, fit.head.head, fit.reader.regression), rows=ROWS
            )
            inputs = as_inputs(fit.labelled.examples.x)
            outputs = try_out(adapter, inputs, fit.y, outputs, fit.fold)
    return _evaluation(fit, outputs, names), parts


def _evaluation(fit: Prepared, outputs: Tensor, names: Sequence[str]) -> Evaluation:
    if fit.reader.regression:
        truth = np.asarray(fit.labelled.y, np.float64)
        values = outputs[:, 0].double().numpy() * fit.spread + fit.center
        return Evaluation(score_values(values, truth), [], Predictions(names, values, None, ()), truth, ())
    rows = _judged(fit.y)
    names = [names[row] for row in rows]
    probabilities = outputs.softmax(-1).numpy()[rows]
    predicted = [str(fit.classes[best]) for best in probabilities.argmax(1)]
    truth_names = fit.y[rows].tolist()
    return Evaluation(
        score_classes(predicted, truth_names),
        mistakes(predicted, truth_names),
        Predictions(names, predicted, probabilities, fit.classes.tolist()),
        truth_names,
        (),
    )
