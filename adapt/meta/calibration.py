"""How sure an adapter's tasks may be: a few numbers, by the likelihood of what they predict on validation
tasks.

    values    min_{s, p, σ²}  Σ_tasks [ Σ_queries −log N(y | o, s n^−p v + σ²) − log N(Y | O, S) ]
              S = s n^−p J A⁻¹ Jᵀ + σ² I
              then max_ν  Σ_tasks log t_ν(Y | O, S)
    classes   min_{s, p, τ}  Σ_tasks Σ_queries −log softmax(o / √(τ² + π s n^−p v / 8)) ,   v = diag J A⁻¹ Jᵀ

Values are judged each by itself and all of a task together, Y, with equal weights (a composite likelihood:
Varin, Reid, Firth 2011, *An Overview of Composite Likelihood Methods*). By themselves alone they ask for no
noise at all where a network has errors that k directions cannot move, which are then impossible together;
together alone they are less sure of single values than they are right. ν is :mod:`adapt.inner.tails`.

After Immer, Korzepa, Bauer (2021), *Improving predictions of Bayesian neural nets via local linearization*,
section 4, who choose the prior's precision so; the temperature is that of Guo, Pleiss, Sun, Weinberger
(2017), *On Calibration of Modern Neural Networks*, section 4.2. Tasks are taken with few and with many
examples, so that the numbers hold for both.
"""

from collections.abc import Callable
from dataclasses import replace
from math import pi
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from adapt.adapter.calibration import Calibration
from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.fitted import FittedTask
from adapt.adapter.uncertainty import pooled
from adapt.checks import check_setting, least
from adapt.inner.posterior import Posterior, covariance, variances
from adapt.inner.tails import tail_of
from adapt.precision import double
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
            seen.append(_seen(task, task.posterior, episode.query_x, episode.query_y))
    if not seen:
        return adapter.replace(calibration=None)
    start, negative = _gaussian(seen) if adapter.loss.regression else _categorical(seen)
    several = len({it.examples for it in seen}) > 1  # tasks of one size do not tell how it falls with it
    found = Calibration(*_least(negative, start, several))
    if adapter.loss.regression:
        found = replace(found, tail=_tail(seen, found))
    return adapter.replace(calibration=found)


class _Together(NamedTuple):
    """The errors of all d values of tasks in the eigenvectors of J A⁻¹ Jᵀ, so that their distance and
    likelihood are sums over k, whatever the covariance is scaled by.

    Attributes:
        shared: its eigenvalues ``[…, k]``.
        along: squared errors along them ``[…, k]``.
        rest: what is left ``[…]``.
        number: d ``[…]``.
    """

    shared: Tensor
    along: Tensor
    rest: Tensor
    number: Tensor

    def distance(self, spread: Tensor, noise: Tensor) -> Tensor:
        """rᵀ (s J A⁻¹ Jᵀ + σ² I)⁻¹ r ``[…]``, for ``spread`` s ``[…]``."""
        return (self.along / (spread[..., None] * self.shared + noise)).sum(-1) + self.rest / noise

    def negative(self, spread: Tensor, noise: Tensor) -> Tensor:
        """−log density ``[…]``, but for a constant."""
        volume = torch.log1p(spread[..., None] * self.shared / noise).sum(-1) + self.number * noise.log()
        return 0.5 * (self.distance(spread, noise) + volume)


class _Task(NamedTuple):
    """Outputs for queries ``[m, C]``, their variance with s = 1, the truth, the number of examples; of
    values, all of them together."""

    mean: Tensor
    variance: Tensor
    truth: Tensor
    examples: int
    together: _Together | None


def _seen(task: FittedTask, posterior: Posterior, x: Tensor, truth: Tensor) -> _Task:
    """What ``task`` says of queries ``x [m, …]``."""
    mean, columns = pooled(task, x, posterior)
    mean, variance = double(mean), variances(posterior, columns).clamp(min=0)
    if not task.adapter.loss.regression:
        return _Task(mean, variance, truth, int(posterior.examples), None)
    errors = (double(truth).reshape(mean.shape) - mean).flatten()
    values, vectors = torch.linalg.eigh(double(covariance(posterior)))
    root = vectors * values.clamp(min=0).sqrt()
    axes, lengths, _ = torch.linalg.svd(double(columns).flatten(1).T @ root, full_matrices=False)
    shared, along = root.new_zeros(2, len(root))
    shared[: len(lengths)], along[: len(lengths)] = lengths.square(), (axes.T @ errors).square()
    rest = (errors.square().sum() - along.sum()).clamp(min=0)
    together = _Together(shared, along, rest, rest.new_tensor(errors.numel()))
    return _Task(mean, variance, truth, int(posterior.examples), together)


def _joined(seen: list[_Task]) -> tuple[_Together, Tensor]:
    """All tasks, and of how many examples each was."""
    parts = [it.together for it in seen if it.together is not None]
    return _Together(*map(torch.stack, zip(*parts, strict=True))), torch.tensor(
        [it.examples for it in seen], dtype=torch.float64
    )


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
    """Where to start, and the mean −log density of values, by themselves and together."""
    error = torch.cat([(it.mean - it.truth.to(it.mean)).square() for it in seen])
    variance = torch.cat([it.variance for it in seen])
    n = torch.cat([torch.full_like(it.variance, it.examples) for it in seen])
    together, examples = _joined(seen)

    def negative(log_spread: Tensor, log_noise: Tensor, decline: Tensor) -> Tensor:
        spread, noise = log_spread.exp(), log_noise.exp()
        whole = spread * n**-decline * variance + noise
        alone = 0.5 * (whole.log() + error / whole).mean()
        return alone + together.negative(spread * examples**-decline, noise).sum() / error.numel()

    return float(error.mean().clamp(min=1e-10).log()), negative


def _tail(seen: list[_Task], found: Calibration) -> float:
    """1/ν of the values of a task together."""
    together, examples = _joined(seen)
    distances = together.distance(found.spread_of(examples), examples.new_tensor(found.noise))
    return tail_of(distances.tolist(), together.number.int().tolist())


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
