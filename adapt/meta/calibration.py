"""How sure an adapter's tasks may be: three numbers, by the likelihood of what they predict on validation
tasks.

    min_{s, p, σ²}  Σ_tasks Σ_queries −log p(y | x)
    p = N(o, s n^−p J A⁻¹ Jᵀ + σ²)   or   softmax(o / √(τ² + π s n^−p v / 8)) ,   v = J A⁻¹ Jᵀ

After Immer, Korzepa, Bauer (2021), *Improving predictions of Bayesian neural nets via local linearization*,
section 4, who choose the prior's precision so; the temperature is that of Guo, Pleiss, Sun, Weinberger
(2017), *On Calibration of Modern Neural Networks*, section 4.2. Tasks are taken with few and with many
examples, so that the numbers hold for both.
"""

from collections.abc import Callable
from math import pi
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from adapt.adapter.calibration import Calibration
from adapt.adapter.few_shot import FewShotAdapter
from adapt.checks import check_setting, least
from tasks import Tasks

__all__ = ["CALIBRATION", "calibrated"]

Adapter = TypeVar("Adapter", bound=FewShotAdapter)
#: Validation tasks, at most.
CALIBRATION = 100
#: Bounds of logarithms, and of the exponent.
LARGEST, STEEPEST = 25.0, 4.0
Negative = Callable[[Tensor, Tensor, Tensor], Tensor]


def calibrated(adapter: Adapter, tasks: Tasks, count: int = CALIBRATION) -> Adapter:
    """``adapter`` with the calibration under which the queries of ``count`` tasks are most probable; as it is
    if its solver gives no posterior.

    Args:
        tasks: for validation: none that the adapter was trained on, none that it is measured on.

    Raises:
        AdaptError: no tasks.
    """
    check_setting("count", count, least(1, "at least one task is needed to calibrate by"))
    plain, seen = adapter.replace(calibration=Calibration(1.0, 1.0)), list[_Task]()
    for number, episode in enumerate(tasks.episodes(0, count)):
        support = _fewer(episode.support_x, episode.support_y, number, adapter.loss.regression)
        task = plain.fit(*support)
        if task.posterior is not None:
            found = task.predictive(episode.query_x)
            mean, variance = (torch.from_numpy(it).double() for it in (found.mean, found.epistemic))
            seen.append(_Task(mean, variance, episode.query_y, len(support[1])))
    if not seen:
        return adapter.replace(calibration=None)
    start, negative = _gaussian(seen) if adapter.loss.regression else _categorical(seen)
    several = len({it.examples for it in seen}) > 1  # tasks of one size do not tell how it falls with it
    return adapter.replace(calibration=Calibration(*_least(negative, start, several)))


class _Task(NamedTuple):
    """Outputs for queries ``[m, C]``, their variance with s = 1, the truth, and the number of examples."""

    mean: Tensor
    variance: Tensor
    truth: Tensor
    examples: int


def _fewer(x: Tensor, y: Tensor, number: int, regression: bool) -> tuple[Tensor, Tensor]:
    """All examples of a support set, a half, a quarter …, by turns with the ``number`` of the task; two of
    each class (in regression: two) at least."""
    label = torch.zeros(len(y), dtype=torch.int64) if regression else y
    rank = (label[:, None] == label[None, :]).tril(-1).sum(1)  # of its class, how many came before
    sizes = [int(rank.max()) + 1]
    while sizes[-1] > 2:
        sizes.append(max(2, sizes[-1] // 2))
    kept = rank < sizes[number % len(sizes)]
    return x[kept], y[kept]


def _gaussian(seen: list[_Task]) -> tuple[float, Negative]:
    """Where to start, and the mean −log density of values."""
    error = torch.cat([(it.mean - it.truth.to(it.mean)).square() for it in seen])
    variance = torch.cat([it.variance for it in seen])
    n = torch.cat([torch.full_like(it.variance, it.examples) for it in seen])

    def negative(log_spread: Tensor, log_noise: Tensor, decline: Tensor) -> Tensor:
        whole = log_spread.exp() * n**-decline * variance + log_noise.exp()
        return 0.5 * (whole.log() + error / whole).mean()

    return float(error.mean().clamp(min=1e-10).log()), negative


def _categorical(seen: list[_Task]) -> tuple[float, Negative]:
    """The same of labels; tasks may have different numbers of classes."""

    def negative(log_spread: Tensor, log_noise: Tensor, decline: Tensor) -> Tensor:
        losses = []
        for it in seen:
            spread = log_spread.exp() * it.examples**-decline
            scaled = it.mean / ((2 * log_noise).exp() + pi / 8 * spread * it.variance).sqrt()
            losses.append(torch.nn.functional.cross_entropy(scaled, it.truth, reduction="none"))
        return torch.cat(losses).mean()

    return 0.0, negative


def _least(negative: Negative, start: float, declines: bool) -> tuple[float, float, float]:
    """Spread, noise and decline where ``negative`` of their logarithms (the last one as it is) is least; it
    is 0 unless it ``declines``."""
    first = torch.tensor([start, start, 0.0], dtype=torch.float64)
    point = first.clone().requires_grad_(True)
    search = torch.optim.LBFGS([point], max_iter=200, line_search_fn="strong_wolfe")
    bounds = torch.tensor([LARGEST, LARGEST, STEEPEST * declines], dtype=torch.float64)

    def closure() -> float:
        search.zero_grad()
        value = negative(*point.clamp(-bounds, bounds))
        value.backward()
        return float(value.detach())

    with torch.enable_grad():
        search.step(closure)
    found = point.detach()
    found = (found if bool(torch.isfinite(found).all()) else first).clamp(-bounds, bounds)
    return float(found[0].exp()), float(found[1].exp()), float(found[2])
