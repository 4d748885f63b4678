"""Methods that move the network, tried within the time that there is."""

from __future__ import annotations

import time

import numpy as np
import torch

from adapt.own_data.head import folds_of, held_out
from adapt.own_data.passes import Say, as_inputs
from adapt.own_data.prepared import Prepared
from adapt.own_data.trial import LEAST, MOST, PASSES, Trial, adapter_for, judge, subset, try_out

__all__ = ["try_others"]

#: Seconds that trying other methods may always take.
LITTLE = 2.0


def try_others(
    fit: Prepared, method: str, seconds: float | None, begun: float, say: Say
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
        whole = fit.seconds(PASSES[name]) if seconds is not None and method == "auto" else 0.0
        most = MOST if method != "auto" else int(min(MOST, (budget - whole) / cost))
        rows = subset(None if fit.reader.regression else fit.y, n, max(most, 0), fit.seed)
        fewest = min(LEAST, n)
        if most < fewest or len(rows) < min(fewest, 6):
            need = cost * min(n, 4 * LEAST) + fit.pass_seconds + fit.seconds(PASSES[name])
            why = (
                "it would take longer than reading the examples did" if seconds is None else "no time is left"
            )
            reasons.append(f"{name} was not tried: {why}; --time {need:.0f}s allows it")
            continue
        if not fit.reader.regression and min(np.unique(fit.y[rows], return_counts=True)[1]) < 3:
            reasons.append(
                f"{name} was not tried: it needs three {fit.reader.many} of every class to be judged"
            )
            continue
        say(f"trying {name} on {len(rows)} {fit.reader.many}")
        trial = _try(fit, name, rows, folds)
        trials.append(trial)
        say(trial.sentence())
        budget -= trial.seconds
        if trial.pays:
            break
    return trials, reasons


def _try(fit: Prepared, name: str, rows: np.ndarray, folds: int) -> Trial:
    begun = time.perf_counter()
    regression = fit.reader.regression
    y = fit.y[rows]
    targets = fit.targets[torch.from_numpy(rows)]
    targets = targets if regression else targets[:, targets.sum(0) > 0]
    fold = folds_of(None if regression else y, len(rows), folds, fit.seed)
    with torch.no_grad():
        alone = held_out(fit.head.head, fit.features[torch.from_numpy(rows)], targets, fold)
    adapter = adapter_for(fit.network, name, fit.head.head, regression)
    moved = try_out(adapter, as_inputs(fit.labelled.examples.x, rows), y, alone, fold)
    return judge(name, moved, alone, targets, regression, time.perf_counter() - begun)
