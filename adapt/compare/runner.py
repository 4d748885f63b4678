"""Run methods side by side on the same tasks, interleaved, and measure them from outside."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch

from adapt.adapter import Context, Method, Predictor, Support
from adapt.backbones import fingerprint
from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.measure import Stopwatch, count_flops, peak_megabytes
from adapt.compare.metric import Metric, metric_of
from adapt.errors import AdaptError
from tasks import Episode, Tasks

__all__ = ["compare"]

Progress = Callable[[Iterable[int]], Iterable[int]]
Judge = Callable[[Predictor, Episode], float]


def compare(
    methods: Mapping[str, Method],
    distribution: Tasks,
    context: Context,
    *,
    experiment: str,
    task: Mapping[str, Any],
    tasks: int,
    device: torch.device,
    environment: Mapping[str, Any] | None = None,
    progress: Progress = lambda indices: indices,
) -> Comparison:
    """Adapt to ``tasks`` episodes with every method.

    Task by task, every method adapts to the same support set (timed) and predicts the same queries (not
    timed); the order of the methods rotates, so that none always runs on a warm or a busy machine. Untimed
    adaptations go first: they warm up, and are where FLOPs and memory are measured. The score follows from
    the queries' targets: accuracy for labels, mean squared error for real values.

    Raises:
        AdaptError: no methods, no tasks, a score that is not finite, or a method that changed weights it
            promised to keep.
    """
    if not methods:
        raise AdaptError(
            "no method to compare: choose at least one, as in method=forward or method=[forward,backprop]"
        )
    if tasks < 1:
        raise AdaptError(f"task.tasks={tasks}: at least one task is needed")
    before = fingerprint(context.backbone)
    adapt = {name: method.prepare(context) for name, method in methods.items()}
    first = _to(distribution.episode(0), device)
    metric = metric_of(first.query_y)
    forward_flops = count_flops(lambda: context.backbone(first.support_x))
    costs = {}
    for name in methods:
        probe = partial(_probe, adapt[name], first)
        costs[name] = (count_flops(probe) / forward_flops, peak_megabytes(probe, device))

    judges = {name: partial(_on_queries, name, metric) for name in methods}
    scores: dict[str, list[tuple[float, float, Curve | None]]] = {name: [] for name in methods}
    for index in progress(range(tasks)):
        episode = _to(distribution.episode(index), device)
        running = [
            name for name, method in methods.items() if method.max_tasks is None or index < method.max_tasks
        ]
        shift = index % len(running) if running else 0
        for name in running[shift:] + running[:shift]:
            scores[name].append(_score(adapt[name], episode, judges[name], device))

    if fingerprint(context.backbone) != before:
        raise AdaptError(
            f"one of {', '.join(methods)} changed the pretrained weights, which all of them "
            "promise to keep: results are void"
        )
    results = {}
    for name, method in methods.items():
        score, seconds, curves = zip(*scores[name], strict=True)
        watched = tuple(curve for curve in curves if curve is not None)
        results[name] = MethodResult(name, method.role, score, seconds, *costs[name], watched)
    known = context.adapter.info.get("training", {}).get("seconds")
    return Comparison(
        experiment, dict(task), context.seed, device.type, results, known, dict(environment or {}), metric
    )


def _probe(adapt: Callable[..., Predictor], episode: Episode) -> Predictor:
    return adapt(_support(episode), lambda predictor: None)


def _score(
    adapt: Callable[..., Predictor], episode: Episode, judge: Judge, device: torch.device
) -> tuple[float, float, Curve | None]:
    """Score on the queries, seconds to adapt, and the curve between if the method showed one."""
    watch = Stopwatch(device)
    points: list[tuple[float, float]] = []

    def look(predictor: Predictor) -> None:
        points.append((watch.stop(), judge(predictor, episode)))
        watch.start()

    watch.start()
    predictor = adapt(_support(episode), look)
    seconds = watch.stop()
    score = judge(predictor, episode)
    if not points:
        return score, seconds, None
    points.append((seconds, score))
    return score, seconds, Curve(*zip(*points, strict=True))


def _on_queries(name: str, metric: Metric, predictor: Predictor, episode: Episode) -> float:
    with torch.no_grad():
        score = metric.measure(predictor(episode.query_x), episode.query_y)
    if not math.isfinite(score):
        raise AdaptError(
            f"{name} diverged on task {episode.meta.index} ({metric.noun} {score}): smaller steps may help, "
            "or leave it out"
        )
    return score


def _support(episode: Episode) -> Support:
    return Support(episode.support_x, episode.support_y, episode.meta.classes)


def _to(episode: Episode, device: torch.device) -> Episode:
    """The same episode with its tensors on ``device``."""
    return Episode(
        support_x=episode.support_x.to(device),
        support_y=episode.support_y.to(device),
        query_x=episode.query_x.to(device),
        query_y=episode.query_y.to(device),
        meta=episode.meta,
    )
