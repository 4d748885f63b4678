"""From a folder or a file to a fitted task: read, choose by held-out examples, fit on all, tell how good it is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FittedTask
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.heads import Ridge
from adapt.heads.base import one_hot
from adapt.inner import CrossEntropy, SquaredError, Trace
from adapt.own_data.answer import INFO, Answer, Evaluation, Predictions
from adapt.own_data.answer import _read as reading
from adapt.own_data.head import FOLDS, HeadChoice, choose_head, folds_of, held_out
from adapt.own_data.networks import Network, network_for, network_of_columns
from adapt.own_data.passes import Say, as_inputs, order_of, rows_of, silent
from adapt.own_data.report import page
from adapt.own_data.retraining import retraining
from adapt.own_data.score import mistakes, score_classes, score_values
from adapt.own_data.trial import LEAST, METHODS, MOST, PASSES, Trial, adapter_for, subset, try_out
from adapt.precision import outside_autocast
from tasks.own import Labelled, Learned, Reader, kind_of, learn

__all__ = ["fit_data"]

#: Waves and lengths that are tried for a table, besides its plain columns.
WAVES, LENGTHS = 256, (0.5, 1.0, 2.0)
#: Seconds that trying other methods may always take.
LITTLE = 2.0


@dataclass
class _Fit:
    """One fit on its way: what is known so far."""

    learned: Learned
    network: Network
    y: np.ndarray
    targets: Tensor
    classes: np.ndarray
    center: float
    spread: float
    features: Tensor
    pass_seconds: float
    fold: np.ndarray
    head: HeadChoice
    seed: int

    @property
    def reader(self) -> Reader:
        return self.learned.reader

    @property
    def labelled(self) -> Labelled:
        return self.learned.train


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
        method: ``head``: a convex head on the network as it is; ``forward``: moved by forward gradients;
            ``backprop``: moved by backpropagation; ``auto``: whichever held-out examples speak for.
        seconds: what fitting may take; None: ``auto`` tries other methods for as long as one pass of the
            network over all examples took.
        backbone: a network by its name; None: the best that is there.
        kind: of what is to be predicted from a table: ``classes``, ``values`` or ``auto``.
        ignore, categorical: columns of a table that are no inputs, and whose numbers are names.
        encoding, decimal: of files.
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
    path = Path(data).expanduser()
    network: Network | None = None
    found = reading(partial(kind_of, path, target, text, encoding))
    if found != "table":
        network = network_for(found, backbone)
        say(network.line)
    elif backbone is not None:
        raise AdaptError(f"backbone={backbone}: a table is read as its columns are, by no pretrained network")
    options = {"size": network.recipe.size, "channels": network.recipe.channels} if network else {}
    learned: Learned = reading(
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
        held = reading(lambda: learned.reader.labelled(Path(test).expanduser()))
    for note in learned.train.examples.notes:
        say(f"note: {note}")
    fit = _prepare(learned, network, seed, say)
    trials, reasons = _trials(fit, method, seconds, begun, say)
    chosen = method if method != "auto" else next((t.method for t in trials if t.pays), "head")
    task = _fitted(fit, chosen, say)
    return _answer(fit, task, chosen, trials, reasons, held, begun, say)


# ------------------------------------------------------------------------------------------ what is known


def _prepare(learned: Learned, network: Network | None, seed: int, say: Say) -> _Fit:
    """Features of all examples, and the head that held-out ones choose."""
    examples, reader = learned.train.examples, learned.reader
    n, center, spread = len(examples), 0.0, 1.0
    if reader.regression:
        y = np.asarray(learned.train.y, np.float64)
        center, spread = float(y.mean()), float(y.std())
        if n < 4 or not spread > 0:
            raise AdaptError(f"{n} {reader.many} with values that do not differ: give four or more that do")
        classes, targets = np.array([]), torch.from_numpy((y - center) / spread).float()[:, None]
        y = (y - center) / spread
    else:
        names = np.array([*map(str, learned.train.y)])
        classes, positions = np.unique(names, return_inverse=True)
        if len(classes) < 2:
            raise AdaptError(
                f"all {n} {reader.many} are of one class, {classes[0]!r}: there is nothing to tell apart; add "
                "another class"
            )
        y, targets = names, one_hot(torch.from_numpy(positions), len(classes))
    what = f"{n} {reader.many}" + ("" if reader.regression else f" of {len(classes)} classes")
    fold = folds_of(None if reader.regression else y, n, min(FOLDS, n), seed)
    if network is None:
        network, features, head, seconds = _table(examples.x, targets, fold, reader.regression)
        say(f"{what}; {network.line}")
    else:
        begun = time.perf_counter()
        features = _features(network, examples.x, what, say)
        seconds = time.perf_counter() - begun
        head = choose_head(features, targets, fold, reader.regression)
    return _Fit(learned, network, y, targets, classes, center, spread, features, seconds, fold, head, seed)


def _features(network: Network, x: Sequence[str] | np.ndarray, what: str, say: Say) -> Tensor:
    """``[n, D]`` of the network as it is; says before how long it will take."""
    adapter = adapter_for(network, "head", Ridge(), False)
    order = order_of(x)
    few = as_inputs(x, order[:: max(1, len(x) // 8)][:8])
    run = partial(call, network.module, {})
    with torch.inference_mode():
        run(adapter.examples(few))  # the first is slower
        begun = time.perf_counter()
        run(adapter.examples(few))
        each = (time.perf_counter() - begun) / len(few)
        say(f"{what}: about {max(1.0, 1.3 * each * len(x)):.0f} s for the network to read them")
        ordered = [x[row] for row in order] if not isinstance(x, np.ndarray) else x
        parts = [run(adapter.examples(part)) for part in rows_of(ordered, say, "reading")]
    found = torch.cat(parts).clone()
    features = torch.empty_like(found)
    features[torch.from_numpy(order)] = found
    return features


def _table(
    x: Sequence[str] | np.ndarray, targets: Tensor, fold: np.ndarray, regression: bool
) -> tuple[Network, Tensor, HeadChoice, float]:
    """Plain columns, or waves over them: whichever predicts held-out rows better; and the seconds of a pass."""
    rows = as_inputs(x)
    assert isinstance(rows, Tensor)
    best: tuple[Network, Tensor, HeadChoice, float] | None = None
    for waves, length in ((0, 1.0), *((WAVES, length) for length in LENGTHS)):
        network = network_of_columns(rows.shape[1], waves, length)
        begun = time.perf_counter()
        with torch.no_grad():
            features = call(network.module, {}, rows)
        seconds = time.perf_counter() - begun
        head = choose_head(features, targets, fold, regression)
        if best is None or head.loss < best[2].loss:
            best = network, features, head, seconds
    assert best is not None
    return best


# ------------------------------------------------------------------------------------------ other methods


def _trials(
    fit: _Fit, method: str, seconds: float | None, begun: float, say: Say
) -> tuple[list[Trial], list[str]]:
    """What was tried besides the head, and why others were not."""
    trials: list[Trial] = []
    reasons: list[str] = []
    if method == "head":
        return trials, reasons
    n, each = len(fit.y), fit.pass_seconds / len(fit.y)
    budget = max(LITTLE, fit.pass_seconds) if seconds is None else seconds - (time.perf_counter() - begun)
    for name in PASSES if method == "auto" else (method,):
        folds = 2
        cost = ((folds - 1) * PASSES[name] + 1) * each  # of each example
        whole = PASSES[name] * fit.pass_seconds if seconds is not None and method == "auto" else 0.0
        most = MOST if method != "auto" else int(min(MOST, (budget - whole) / cost))
        rows = subset(None if fit.reader.regression else fit.y, n, max(most, 0), fit.seed)
        fewest = min(LEAST, n)
        if most < fewest or len(rows) < min(fewest, 6):
            need = cost * min(n, 4 * LEAST) + fit.pass_seconds * (1 + PASSES[name])
            reasons.append(f"{name} was not tried: trying takes longer than it may; --time {need:.0f}s would do")
            continue
        if not fit.reader.regression and min(np.unique(fit.y[rows], return_counts=True)[1]) < 3:
            reasons.append(f"{name} was not tried: it needs three {fit.reader.many} of every class to be judged")
            continue
        say(f"trying {name} on {len(rows)} {fit.reader.many}")
        trial = _try(fit, name, rows, folds)
        trials.append(trial)
        say(trial.sentence())
        budget -= trial.seconds
        if trial.pays:
            break
    return trials, reasons


def _try(fit: _Fit, name: str, rows: np.ndarray, folds: int) -> Trial:
    begun = time.perf_counter()
    regression = fit.reader.regression
    y = fit.y[rows]
    targets = fit.targets[torch.from_numpy(rows)]
    targets = targets if regression else targets[:, targets.sum(0) > 0]
    fold = folds_of(None if regression else y, len(rows), folds, fit.seed)
    with torch.no_grad():
        alone = held_out(fit.head.head, fit.features[torch.from_numpy(rows)], targets, fold)
    adapter = adapter_for(fit.network, name, fit.head.head, regression)
    moved, alone = try_out(adapter, as_inputs(fit.labelled.examples.x, rows), y, alone, fold)
    loss = SquaredError() if regression else CrossEntropy()
    gain = (loss.values(alone, targets) - loss.values(moved, targets)).double()
    right = [float("nan"), float("nan")]
    if not regression:
        right = [float((o.argmax(1) == targets.argmax(1)).double().mean()) for o in (moved, alone)]
    error = float(gain.std() / len(gain) ** 0.5)
    before = float(loss.values(alone, targets).mean())
    return Trial(name, len(rows), float(gain.mean()), error, before, *right, time.perf_counter() - begun)


# ------------------------------------------------------------------------------------------ the fit


def _fitted(fit: _Fit, method: str, say: Say) -> FittedTask:
    """The task, in the unit of the labels."""
    adapter = adapter_for(fit.network, method, fit.head.head, fit.reader.regression)
    if method == "head":
        with torch.no_grad(), outside_autocast(fit.features.device):
            state = adapter.head.fit(fit.features, fit.targets)
        z = adapter.state.origin.new_zeros(adapter.state.k)
        trace = Trace(z.new_zeros(0), 1.0, "not adapted: the head alone")
        task = FittedTask(adapter, adapter.subspace.parameters(z), state, fit.classes, z, trace, fit.targets.shape[1])
    else:
        n = len(fit.y)
        say(f"{method} on all {n}: about {max(1.0, PASSES[method] * fit.pass_seconds):.0f} s")
        x = as_inputs(fit.labelled.examples.x)
        task = replace(adapter, rows=64).fit(x, fit.y.tolist())
    return _in_units(task, fit.center, fit.spread) if fit.reader.regression else task


def _in_units(task: FittedTask, center: float, spread: float) -> FittedTask:
    """The weights of a ridge regression of standardised values as those of the values themselves."""
    head = task.adapter.head
    assert isinstance(head, Ridge)
    state = task.head_state.double() * spread
    state[-1] += center / (head.scale * (len(state) - 1) ** 0.5)  # the constant column is √D
    return replace(task, head_state=state)


# ------------------------------------------------------------------------------------------ what is said


def _answer(
    fit: _Fit,
    task: FittedTask,
    method: str,
    trials: list[Trial],
    reasons: list[str],
    held: Labelled | None,
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
        "network": fit.network.recipe.title,
        "head": repr(fit.head.head),
        "score": shown.score.to_dict(),
        "scored_on": judged if tested is None else "a test set",
        "trials": [vars(trial) for trial in trials],
        "seconds": seconds,
        "reading_seconds": fit.pass_seconds,
    }
    for trial in about["trials"]:
        trial.update({key: None for key, value in trial.items() if value != value})
    info = {"title": f"{fit.reader.kind.capitalize()}, by {method}", INFO: about}
    answer = Answer(replace(task, adapter=replace(task.adapter, info=info)), fit.reader)
    others = retraining(fit.network, fit.labelled.examples.x, fit.reader.regression)
    html = page(answer, fit.labelled, fit.y, out_of_fold, tested, trials, reasons, others, seconds)
    say(f"{method}: {shown.score.sentence()}, {about['scored_on']}")
    return replace(answer, page=html)


def _held_out(fit: _Fit, method: str, say: Say) -> tuple[Evaluation, str]:
    """Predictions of the examples themselves, each by a fit without it; and how they came about."""
    names, outputs = fit.labelled.examples.names, fit.head.outputs
    parts = f"each predicted without its part of {len(np.unique(fit.fold))}"
    if method != "head":
        if len(fit.y) > MOST or (not fit.reader.regression and len(fit.y) < 3 * len(fit.classes)):
            parts = f"by the head alone, {parts}"
        else:
            say(f"{method}, {parts}, to know how good it is")
            adapter = replace(adapter_for(fit.network, method, fit.head.head, fit.reader.regression), rows=64)
            inputs = as_inputs(fit.labelled.examples.x)
            outputs, _ = try_out(adapter, inputs, fit.y, outputs, fit.fold)
    return _evaluation(fit, outputs, names), parts


def _evaluation(fit: _Fit, outputs: Tensor, names: Sequence[str]) -> Evaluation:
    if fit.reader.regression:
        truth = np.asarray(fit.labelled.y, np.float64)
        values = outputs[:, 0].double().numpy() * fit.spread + fit.center
        return Evaluation(score_values(values, truth), [], Predictions(names, values, None, ()), truth, ())
    probabilities = outputs.softmax(-1).numpy()
    predicted = [str(fit.classes[best]) for best in probabilities.argmax(1)]
    truth_names = fit.y.tolist()
    return Evaluation(
        score_classes(predicted, truth_names),
        mistakes(predicted, truth_names),
        Predictions(names, predicted, probabilities, fit.classes.tolist()),
        truth_names,
        (),
    )
