"""Learning φ₀, U, the prior and the sharpness end to end, through the inner solver.

    min_s  E_task [ L(queries; head at φ₀ + U z*) ] ,   z* = solver(support; s) ,   s = (φ₀, U, log Λ⁻¹, …)

MAML's outer loop (Finn, Abbeel, Levine 2017) over an inner loop that is itself differentiated by forward
mode. The head is fitted on the adapted support features inside the loss, as when adapting. The gradient, and
what stands in for it, is in :mod:`adapt.meta.gradient`; Adam with clipping takes the step; the state with the
least validation loss wins. ``nested`` trains the first j directions at a time, with j drawn for every step,
so that the leading ones are the best of their number (Rippel, Gelbart, Adams 2014, *Learning Ordered
Representations with Nested Dropout*, equation 2).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import nn

from adapt.adapter.matching import Matching
from adapt.adapter.problem import Problem
from adapt.adapter.state import AdapterState
from adapt.adapter.verified import check_state
from adapt.backbones import examples_for, fingerprint
from adapt.errors import AdaptError
from adapt.heads.base import check_regression
from adapt.inner import Solver
from adapt.meta.batches import stacked
from adapt.meta.query import Learner
from adapt.meta.settings import MetaTraining
from adapt.meta.snapshot import read_snapshot, same_snapshot, write_snapshot
from adapt.meta.step import Training
from adapt.meta.validation import Metrics
from adapt.ranks import ALONE, Ranks
from adapt.spaces import Space
from adapt.spaces.saved import describe
from tasks import Tasks

__all__ = ["check_ranks", "meta_train"]


def meta_train(
    backbone: nn.Module,
    space: Space,
    start: AdapterState | None,
    solver: Solver,
    problem: Problem,
    train: Tasks,
    validation: Tasks,
    settings: MetaTraining,
    *,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda steps: steps,
    report: Callable[[int, Metrics], None] = lambda step, metrics: None,
    checkpoint: Path | None = None,
    resume: Path | None = None,
    match: Matching | None = None,
    ranks: Ranks = ALONE,
) -> tuple[AdapterState, Metrics]:
    """Train from ``start`` on tasks of ``train``.

    Args:
        start: where to start; not needed with ``resume``.
        seed: of the random choices that are not the tasks' own.
        progress: wraps the iteration over steps (a progress bar).
        report: called with training loss after every step, and with validation metrics.
        checkpoint: a file to write before the first step and at every validation, whole or not at all.
        resume: such a file of an interrupted run with the same settings, to go on from. On a CPU the result
            is then the same to the last bit as if there had been no interruption.
        match: how far the norms follow the statistics of a task's support set; None: not.
        ranks: processes that share the tasks, each calling this with the same settings. ``start``,
            ``resume`` and ``checkpoint`` are the first one's; the result is the same in all.

    Returns:
        The state with the least validation loss (of the moving average, if there is one), and its validation
        metrics.

    Raises:
        AdaptError: tasks that the support loss cannot judge, fewer of them than processes, or a checkpoint of
            another run.
    """
    _check(problem, train, validation)
    check_ranks(ranks, settings)
    examples_for(backbone, train.episode(0).support_x)
    training = Training(Learner(backbone, space, solver, problem, match), train, settings, seed, ranks)
    part = ranks.part(settings.validation_tasks)
    validation_tasks = stacked(validation, part.start, part.stop)
    described = _describe(training, validation)
    now = None
    if not ranks.first:
        checkpoint = None
    elif resume is not None:
        now = read_snapshot(resume, described, space.initial.device)
        for state in (now.state, now.average, now.best):
            check_state(resume, state.tensors(), space)
    elif start is not None:
        now = training.begin(start)
    else:
        raise AdaptError("meta_train needs a state to start from, or a checkpoint to resume")
    now = same_snapshot(ranks, now, space.initial.device)
    if not now.metrics:
        now = training.valued(now, validation_tasks)
        report(0, now.metrics)
    if checkpoint is not None:
        write_snapshot(checkpoint, now, described)
    for _ in progress(range(now.step, settings.steps)):
        if settings.patience and now.stale >= settings.patience:
            break
        now, metrics = training.step(now)
        report(now.step, metrics)
        if now.step % settings.validate_every == 0 or now.step == settings.steps:
            now, metrics = training.judge(now, validation_tasks)
            report(now.step, metrics)
            if checkpoint is not None:
                write_snapshot(checkpoint, now, described)
    return now.best, now.metrics


def check_ranks(ranks: Ranks, settings: MetaTraining) -> None:
    """Refuse processes that would have nothing to do."""
    for name in ("tasks_per_step", "validation_tasks"):
        if (number := getattr(settings, name)) < ranks.count:
            raise AdaptError(
                f"meta.{name}={number} are fewer than the {ranks.count} processes that share them: set it to "
                f"{ranks.count} or more, or start fewer processes"
            )


def _describe(training: Training, validation: Tasks) -> dict[str, Any]:
    """What a checkpoint must have been made with, to go on from it (JSON)."""
    learner = training.learner
    run: dict[str, Any] = {f"meta.{name}": value for name, value in asdict(training.settings).items()}
    for role, tasks in (("train", training.train), ("validation", validation)):
        settings = [field.name for field in fields(tasks) if field.repr] if is_dataclass(tasks) else ["shots"]
        run |= {f"{role}.{name}": _settings_of(getattr(tasks, name)) for name in settings}
        run[f"{role}.source"] = tasks.source.digest()
    parts = {"inner": learner.solver, **learner.problem._asdict(), "seed": training.seed}
    parts |= {} if learner.match is None else {"match": learner.match}
    return (
        run
        | {name: _settings_of(part) for name, part in parts.items()}
        | {"backbone": fingerprint(learner.backbone), "space": json.dumps(describe(learner.space))}
    )


def _settings_of(part: Any) -> str:
    """What is the same in another process: no addresses."""
    plain = part is None or isinstance(part, int | float | str | Mapping) or is_dataclass(part)
    return repr(part) if plain else type(part).__qualname__


def _check(problem: Problem, *tasks: Tasks) -> None:
    if problem.loss.regression:
        check_regression(problem.head)
        check_regression(problem.support_head, "support_head")
    for distribution in tasks:
        if distribution.regression != problem.loss.regression:
            kind = "values" if distribution.regression else "classes"
            raise AdaptError(f"{type(problem.loss).__name__} does not fit tasks whose targets are {kind}")
        single = not distribution.regression and distribution.shots < 2
        if single and getattr(distribution, "copies", 1) < 2:
            raise AdaptError(
                "task.shots=1: the support loss leaves one example out, so meta-training needs two a class, "
                "or "
                "views of images (task=views)"
            )
