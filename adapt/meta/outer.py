"""Learning φ₀, U, λ and the sharpness end to end, through the inner solver.

    min_{φ₀, U, λ, s}  E_task [ CE(query, head(features at φ₀ + U z*)) ] ,   z* = solver(support; φ₀, U, λ, s)

MAML's outer loop (Finn, Abbeel, Levine 2017) over an inner loop that is itself differentiated by forward
mode: reverse over forward. The head is fitted on the adapted support features inside the loss, as when
adapting. Adam with gradient clipping; the state with the best validation accuracy wins.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter.problem import features_of, solve
from adapt.adapter.state import AdapterState
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.heads import Head, one_hot
from adapt.inner import Solver
from adapt.spaces import Space
from tasks import Distribution, Episode

__all__ = ["MetaTraining", "meta_train", "query_logits"]


@dataclass(frozen=True)
class MetaTraining:
    """Hyper-parameters of the outer loop.

    Args:
        k: directions of the basis.
        basis_tasks: tasks whose gradients make the first basis.
        steps: outer steps, of ``tasks_per_step`` tasks each.
        lr: of Adam on φ₀ and U (their natural unit is 1, a norm's scale); the two log scalars move ten times
            as fast.
        validate_every: outer steps between validations on ``validation_tasks`` tasks.
    """

    k: int = 8
    basis_tasks: int = 100
    steps: int = 200
    tasks_per_step: int = 4
    lr: float = 3e-3
    clip: float = 1.0
    validate_every: int = 25
    validation_tasks: int = 100

    def __post_init__(self) -> None:
        if (
            min(
                self.k,
                self.basis_tasks,
                self.steps,
                self.tasks_per_step,
                self.validate_every,
                self.validation_tasks,
            )
            < 1
        ):
            raise AdaptError(
                "meta: k, basis_tasks, steps, tasks_per_step, validate_every and "
                "validation_tasks must all be at least 1"
            )


def query_logits(
    backbone: nn.Module, space: Space, state: AdapterState, solver: Solver, head: Head, episode: Episode
) -> Tensor:
    """Logits ``[N·Q, C]`` of the queries after adapting to the support; differentiable in ``state``."""
    x = episode.support_x.to(state.origin)
    targets = one_hot(episode.support_y.to(x.device), len(episode.meta.classes), x.dtype)
    support = features_of(backbone, space, state, x)
    z, _ = solve(support, state, solver, targets)
    parameters = space.parameters(state.origin + state.basis @ z)
    return head.logits(head.fit(support(z), targets), call(backbone, parameters, episode.query_x.to(x)))


def validate(
    backbone: nn.Module,
    space: Space,
    state: AdapterState,
    solver: Solver,
    head: Head,
    episodes: Sequence[Episode],
) -> dict[str, float]:
    """Mean query accuracy and cross-entropy over ``episodes``."""
    accuracy = loss = 0.0
    with torch.no_grad():
        for episode in episodes:
            logits, y = (
                query_logits(backbone, space, state, solver, head, episode),
                episode.query_y.to(state.origin.device),
            )
            accuracy += float((logits.argmax(-1) == y).double().mean()) / len(episodes)
            loss += float(nn.functional.cross_entropy(logits, y)) / len(episodes)
    return {"validation/accuracy": accuracy, "validation/loss": loss}


def meta_train(
    backbone: nn.Module,
    space: Space,
    start: AdapterState,
    solver: Solver,
    head: Head,
    train: Distribution,
    validation: Distribution,
    settings: MetaTraining,
    *,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda steps: steps,
    report: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> tuple[AdapterState, dict[str, float]]:
    """Train from ``start`` on tasks of ``train``; returns the state with the least validation loss, and its
    validation metrics."""
    if min(train.shots, validation.shots) < 2:
        raise AdaptError(
            "task.shots=1: the support loss leaves one example out, so meta-training needs two a class"
        )
    state = AdapterState(*(tensor.clone().requires_grad_(True) for tensor in start))
    groups: list[dict[str, Any]] = [
        {"params": [state.origin, state.basis]},
        {"params": [state.log_damping, state.log_sharpness], "lr": 10 * settings.lr},
    ]
    optimizer = torch.optim.Adam(groups, lr=settings.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    held = list(validation.episodes(0, settings.validation_tasks))

    best, best_metrics = start, validate(backbone, space, start, solver, head, held)
    report(0, best_metrics)
    for step in progress(range(settings.steps)):
        total = 0.0
        for index in range(settings.tasks_per_step):
            episode = train.episode(step * settings.tasks_per_step + index)
            logits = query_logits(backbone, space, state, solver, head, episode)
            loss = (
                nn.functional.cross_entropy(logits, episode.query_y.to(logits.device))
                / settings.tasks_per_step
            )
            loss.backward()  # task by task: memory for one task at a time
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(list(state), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        report(step + 1, {"train/loss": total})
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            metrics = validate(backbone, space, state, solver, head, held)
            report(step + 1, metrics)
            if metrics["validation/loss"] < best_metrics["validation/loss"]:
                best, best_metrics = AdapterState(*(tensor.detach().clone() for tensor in state)), metrics
    return best, best_metrics
