"""Examples in memory → a fitted task: the head that held-out examples choose, and a method that pays.

What comes of it depends on the examples alone, not on the clock (unless a time is set) nor on their order
if the caller sorts them: an example of weight 2 is two examples that are never divided between folds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FittedTask
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.heads import Logistic, Ridge
from adapt.heads.base import one_hot
from adapt.inner import SquaredError
from adapt.own_data.alone import fit_alone, in_units
from adapt.own_data.head import FOLDS, L2, HeadChoice, choose_head, folds_of, held_out
from adapt.own_data.networks import LENGTHS, WAVES, Network, network_of_columns
from adapt.own_data.passes import ROWS
from adapt.own_data.starts import SHARES, nearest
from adapt.own_data.trial import LEAST, METHODS, MOST, PASSES, Trial, adapter_for, judge, subset, try_out

__all__ = ["Chosen", "choose", "repeats"]

#: Strengths of the ridge regression by which one of the lengths is chosen.
STRENGTHS = (0.0001, 0.001, 0.01, 0.1)
#: Up to so many examples in all, or so many times as many, weights may be repetitions.
REPEATED, TIMES = 10_000, 4


@dataclass(frozen=True)
class Chosen:
    """The task, by which method, the strength of the head's regularisation, and what was tried besides."""

    task: FittedTask
    method: str
    l2: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class _Known:
    """What every method starts from. Rows are distinct examples, or repeat them (``row``: of which)."""

    network: Network
    x: list[str] | Tensor
    y: np.ndarray
    row: np.ndarray
    features: Tensor
    targets: Tensor
    weights: Tensor | None
    head: HeadChoice
    regression: bool
    seed: int


def repeats(weights: np.ndarray | None, n: int) -> np.ndarray | None:
    """The rows of n examples ``[m]``, each as often as its weight says; None if that is no way to weigh them:
    not whole, or too many.

    Example:
        >>> repeats(np.array([2.0, 0.0, 1.0]), 3).tolist(), repeats(np.array([0.5, 1.0]), 2)
        ([0, 0, 2], None)
    """
    if weights is None:
        return np.arange(n)
    total = float(weights.sum())
    if (weights != np.round(weights)).any() or total > max(REPEATED, TIMES * n):
        return None
    return np.repeat(np.arange(n), weights.astype(np.int64))


def choose(
    x: Sequence[str] | Tensor,
    y: np.ndarray,
    network: Network | None,
    *,
    regression: bool,
    method: str = "auto",
    l2: float | None = None,
    seconds: float | None = None,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> Chosen:
    """Fit distinct examples.

    Args:
        x: n texts, or what ``network`` takes ``[n, …]``; standardised columns if that is None.
        y: labels ``[n]``; in regression values ``[n, C]``.
        network: reads the examples; None: they are rows of a table.
        regression: whether values are to be predicted.
        method: ``head``, ``forward``, ``backprop``, or ``auto``: whichever held-out examples speak for.
        l2: strength of the regularisation of the head; None: held-out examples choose.
        seconds: what trying other methods may take; None: they are tried on a part of the examples, as many
            as cost about one more pass.
        seed: of the division into parts.
        weights: of examples ``[n]``, above 0; None: all 1.

    Raises:
        AdaptError: an unknown method, a single class, or weights that the method cannot heed.
    """
    if method not in METHODS:
        raise AdaptError(f"method={method!r} is unknown: use one of {', '.join(METHODS)}")
    begun = time.perf_counter()
    known, each = _known(x, y, network, regression, (l2,) if l2 else L2, seed, weights)
    trials: list[Trial] = []
    if method == "auto":
        budget = None if seconds is None else seconds - (time.perf_counter() - begun)
        trials = [*_trials(known, each, budget)] if known.weights is None else []
        method = next((trial.method for trial in trials if trial.pays), "head")
    elif method != "head" and known.weights is not None:
        raise AdaptError(
            f"sample_weight: method={method!r} learns from every example alike, so that weights must be "
            "whole numbers, and not large: use method='head', which heeds any"
        )
    head = known.head.head
    assert isinstance(head, Logistic | Ridge)
    return Chosen(_fitted(known, y, method), method, head.l2, tuple(trials))


def _known(
    x: Sequence[str] | Tensor,
    y: np.ndarray,
    network: Network | None,
    regression: bool,
    grid: Sequence[float],
    seed: int,
    weights: np.ndarray | None,
) -> tuple[_Known, float]:
    """Features, and the head that held-out examples choose; and the seconds that an example takes."""
    n, row = len(y), repeats(weights, len(y))
    weighed = torch.from_numpy(weights) if weights is not None and row is None else None
    row = np.arange(n) if row is None else row
    if regression:
        targets = torch.from_numpy(_standard(y, weights)[0])
    else:
        classes, positions = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise AdaptError(f"all examples are of one class, {classes[0].item()!r}: add another class")
        targets = one_hot(torch.from_numpy(positions), len(classes), torch.float64)
    fold = folds_of(None if regression else y, n, min(FOLDS, n), seed)[row]
    rows, known = torch.from_numpy(row), None
    begun = time.perf_counter()
    if network is not None:
        aims = targets.numpy() if regression else y
        begin = nearest(network, aims, partial(_some, x), regression=regression, seed=seed, weights=weights)
        network, known = begin.network, begin.features
        begun = begun if known is not None else time.perf_counter()
    networks = [network] if network is not None else _tables(x, targets, weights)
    best: _Known | None = None
    for candidate in networks:
        features = _features(candidate, x) if known is None else known
        features = features[rows.to(_device(candidate))]
        aimed = targets[rows].to(features)
        mass = None if weighed is None else weighed.to(features)
        with torch.no_grad():
            head = choose_head(features, aimed, fold, regression, grid, mass)
        if best is None or head.loss < best.head.loss:
            repeated = _take(x, row)
            best = _Known(candidate, repeated, y[row], row, features, aimed, mass, head, regression, seed)
    assert best is not None
    passes = len(networks) if known is None else len(SHARES)
    return best, (time.perf_counter() - begun) / passes / n


def _standard(y: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values ``[n, C]`` of mean 0 and variance 1, and what mean and standard deviation were ``[C]``."""
    center = np.average(y, 0, weights)
    spread = np.sqrt(np.average((y - center) ** 2, 0, weights))
    spread = np.where(spread > 0, spread, 1.0)
    return (y - center) / spread, center, spread


def _tables(x: Sequence[str] | Tensor, targets: Tensor, weights: np.ndarray | None) -> list[Network]:
    """Plain columns, and waves over them, of the length by which ridge regression predicts best what it was
    not fitted to: that is known in closed form, and a logistic regression would choose alike."""
    assert isinstance(x, Tensor)
    mass = torch.ones(len(x), dtype=torch.float64) if weights is None else torch.from_numpy(weights)
    networks = [network_of_columns(x.shape[1], WAVES, length) for length in LENGTHS]
    losses = []
    for network in networks:
        features = _features(network, x)
        outputs = (Ridge(l2, scale=1.0).loo_logits(features, targets, mass) for l2 in STRENGTHS)
        losses.append(min(float((mass * SquaredError().values(it, targets)).sum()) for it in outputs))
    return [network_of_columns(x.shape[1]), networks[int(np.argmin(losses))]]


def _features(network: Network, x: Sequence[str] | Tensor) -> Tensor:
    """``[n, D]`` of the network from where it is adapted."""
    adapter = adapter_for(network, "head", Ridge(), False)
    order = np.argsort([*map(len, x)], kind="stable") if not isinstance(x, Tensor) else np.arange(len(x))
    parts = adapter.batches(_take(x, order), None if isinstance(x, Tensor) else ROWS)
    with torch.no_grad():
        found = torch.cat([call(network.module, network.parameters, part) for part in parts])
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return found[torch.from_numpy(back).to(found.device)]


def _some(x: Sequence[str] | Tensor, network: Network, rows: np.ndarray) -> Tensor:
    return _features(network, _take(x, rows))


def _device(network: Network) -> torch.device:
    return adapter_for(network, "head", Ridge(), False).state.origin.device


def _take(x: Sequence[str] | Tensor, rows: np.ndarray) -> list[str] | Tensor:
    return x[torch.from_numpy(rows)] if isinstance(x, Tensor) else [x[row] for row in rows]


# ------------------------------------------------------------------------------------------ other methods


def _trials(known: _Known, each: float, budget: float | None) -> Sequence[Trial]:
    """Methods that move the network, in the order of their cost, up to the first that pays."""
    trials: list[Trial] = []
    n = len(known.y)
    for name, passes in PASSES.items():
        table = known.network.name.startswith("columns:")
        most = MOST if table else max(2 * LEAST, round(n / (passes + 1)))
        if budget is not None:
            most = min(most, int(budget / (each * (2 * passes + 1)))) if budget > 0 else 0
        chosen = subset(None if known.regression else known.y, n, max(most, 0), known.seed)
        if most < 6 or len(chosen) < max(6, min(LEAST, n)):
            continue
        distinct = np.unique(known.row[chosen], return_index=True)[1]
        if not known.regression:
            counts = np.unique(known.y[chosen][distinct], return_counts=True)[1]
            if min(counts) < 3 or len(counts) < 2:
                continue
        trials.append(_try(known, name, chosen))
        if trials[-1].pays:
            break
        budget = None if budget is None else budget - trials[-1].seconds
    return trials


def _try(known: _Known, name: str, rows: np.ndarray) -> Trial:
    begun = time.perf_counter()
    which, first, place = np.unique(known.row[rows], return_index=True, return_inverse=True)
    y, places = known.y[rows], torch.from_numpy(rows).to(known.features.device)
    fold = folds_of(None if known.regression else y[first], len(which), 2, known.seed)[place]
    targets = known.targets[places]
    targets = targets if known.regression else targets[:, targets.sum(0) > 0]
    with torch.no_grad():
        alone = held_out(known.head.head, known.features[places], targets, fold)
    adapter = adapter_for(known.network, name, known.head.head, known.regression).replace(rows=ROWS)
    labels = targets.cpu().numpy() if known.regression else y
    moved = try_out(adapter, _take(known.x, rows), labels, alone, fold)
    return judge(name, moved, alone, targets, known.regression, time.perf_counter() - begun)


# ------------------------------------------------------------------------------------------ the fit


def _fitted(known: _Known, y: np.ndarray, method: str) -> FittedTask:
    """The task, in the unit of the labels ``y`` of distinct examples."""
    adapter = adapter_for(known.network, method, known.head.head, known.regression)
    if method == "head":
        classes = np.array([]) if known.regression else np.unique(known.y)
        task = fit_alone(adapter, known.features, known.targets, classes, known.weights)
    else:
        labels = known.targets.cpu().numpy() if known.regression else known.y
        task = adapter.replace(rows=ROWS).fit(known.x, labels)
    return _in_units(task, y, known) if known.regression else task


def _in_units(task: FittedTask, y: np.ndarray, known: _Known) -> FittedTask:
    """The weights of a ridge regression of standardised values as those of the values themselves."""
    counts = np.bincount(known.row, minlength=len(y)).astype(np.float64)
    mass = counts if known.weights is None else known.weights.double().cpu().numpy()
    _, center, spread = _standard(y, mass)
    return in_units(task, center, spread)
