"""Which head, how strongly regularised: by examples that were held out, features computed once.

    h* = argmin_h Σ_i ℓ_i(h fitted without the fold of i)

Stone (1974), *Cross-Validatory Choice and Assessment of Statistical Predictions*. What a page says of the
accuracy is honest about the choice: the head that judges a fold is the one that the *other* folds would
choose (Tibshirani and Tibshirani 2009, *A bias correction for the minimum error rate in cross-validation*).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.heads import Head, Logistic, Ridge
from adapt.heads.base import normalise, with_constant
from adapt.inner import CrossEntropy, Loss, SquaredError

__all__ = ["HeadChoice", "choose_head", "fitted", "folds_of", "held_out"]

L2 = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
FOLDS = 5
#: Iterations of fits that are only compared, and the change of the loss, or of every weight, at which they
#: end; of kept ones.
ITERATIONS, CHANGE = 60, 1e-4
KEPT_ITERATIONS, KEPT_CHANGE = 300, 1e-9


@dataclass(frozen=True)
class HeadChoice:
    """A head, and how it does on examples that it was not fitted to.

    Args:
        head: of the least held-out loss.
        outputs: of each example without its fold ``[n, C]``, by the head that the other folds choose.
        losses: of these ``[n]``.
        loss: the mean held-out loss of ``head``.
    """

    head: Head
    outputs: Tensor
    losses: Tensor
    loss: float


def folds_of(y: np.ndarray | None, n: int, folds: int, seed: int) -> np.ndarray:
    """The fold of each example, int64 ``[n]``; every class of ``y [n]`` is spread evenly, by the seed."""
    order = np.random.default_rng(seed).permutation(n)
    fold = np.empty(n, np.int64)
    if y is None:
        fold[order] = np.arange(n) % folds
        return fold
    start = 0
    for label in np.unique(y):
        members = order[y[order] == label]
        fold[members] = (start + np.arange(len(members))) % folds
        start += len(members)  # or classes of one example would all be in the first fold
    return fold


def held_out(
    head: Head,
    features: Tensor,
    targets: Tensor,
    fold: np.ndarray,
    weights: Tensor | None = None,
    starts: dict[int, Tensor] | None = None,
) -> Tensor:
    """Outputs ``[n, C]`` of every example by ``head`` fitted without its fold; ``weights`` of examples
    ``[n]``.

    ``starts`` are states of a similar head by the fold that they were fitted without, from which an iterative
    fit begins; they are replaced by those of ``head``.
    """
    outputs, starts = torch.zeros_like(targets), {} if starts is None else starts
    for number in np.unique(fold):
        out = torch.as_tensor(fold == number)
        some = None if weights is None else weights[~out]
        state = fitted(head, features[~out], targets[~out], some, start=starts.get(number))
        outputs[out] = head.logits(state, features[out]).to(outputs.dtype)
        starts[number] = state
    return outputs


def choose_head(
    features: Tensor,
    targets: Tensor,
    fold: np.ndarray,
    regression: bool,
    grid: Sequence[float] = L2,
    weights: Tensor | None = None,
) -> HeadChoice:
    """Logistic regression, or ridge regression of ``targets [n, C]``, of the strength that held-out examples
    choose.

    Args:
        features: ``[n, D]``.
        fold: of each example ``[n]``, two at least.
        grid: strengths to choose from.
        weights: how much each example counts ``[n]``, above 0; None: 1.
    """
    share = None if weights is None else weights / weights.mean()
    loss: Loss = SquaredError() if regression else CrossEntropy()
    tried: dict[int, tuple[Tensor, Tensor]] = {}
    states: dict[int, dict[int, Tensor]] = {}

    def judged(place: int) -> float:
        """Mean held-out loss of a strength, by its place in the grid."""
        if place not in tried:
            near = min(states, key=lambda it: abs(it - place), default=place)
            states[place] = {**states.get(near, {})}
            head = _head(grid[place], regression)
            outputs = held_out(head, features, targets, fold, weights, states[place])
            losses = loss.values(outputs, targets)
            tried[place] = outputs, losses if share is None else share * losses
        return float(tried[place][1].mean())

    with torch.no_grad():
        best = _descend(judged, len(grid))
    places = [*tried]
    outputs, losses = (torch.stack(each) for each in zip(*tried.values(), strict=True))  # [h, n, C], [h, n]
    honest = torch.empty_like(outputs[0])
    for number in np.unique(fold):
        out = torch.as_tensor(fold == number)
        others = int(losses[:, ~out].mean(1).argmin())
        honest[out] = outputs[others, out]
    return HeadChoice(
        _head(grid[best], regression),
        honest,
        loss.values(honest, targets),
        float(losses[places.index(best)].mean()),
    )


def _head(l2: float, regression: bool) -> Head:
    return Ridge(l2, scale=1.0) if regression else Logistic(l2)


def fitted(
    head: Head,
    features: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    kept: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    """The fitted state; of a large logistic regression by L-BFGS from ``start`` (None: 0), in a tenth of the
    time of Newton's method. Of one that is not ``kept`` but only compared, nobody sees the difference."""
    if not isinstance(head, Logistic) or min(features.shape) * targets.shape[1] <= head.dense:
        return head.fit(features, targets, weights)
    x = with_constant(normalise(features))
    w = x.new_zeros(x.shape[1], targets.shape[1]) if start is None else start.clone()
    w.requires_grad_()
    ones = (x.new_ones(len(x)) if weights is None else weights.to(x))[:, None]
    search = torch.optim.LBFGS(
        [w],
        max_iter=KEPT_ITERATIONS if kept else ITERATIONS,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_change=KEPT_CHANGE if kept else CHANGE,
    )

    def objective() -> float:
        with torch.no_grad():
            z = x @ w
            slope = ones * (z.softmax(-1) - targets)
            w.grad = x.T @ slope + head.l2 * features.shape[1] * w
            value = (ones[:, 0] * (z.logsumexp(-1) - (targets * z).sum(-1))).sum()
            return float(value + 0.5 * head.l2 * features.shape[1] * w.square().sum())

    search.step(objective)
    return w.detach()


def _descend(judged: Callable[[int], float], places: int) -> int:
    """The place of the least of values that fall and then rise, from the middle: weak heads cost most."""
    best = places // 2
    judged(best)  # also where there is no other
    for step in (1, -1):
        while 0 <= best + step < places and judged(best + step) < judged(best):
            best += step
    return best
