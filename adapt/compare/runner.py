"""Run methods side by side on the same tasks, interleaved, and measure them from outside."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapt.adapter import Context, Method, Predictor, Support
from adapt.backbones import fingerprint
from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.measure import Stopwatch, count_flops, peak_megabytes
from adapt.errors import AdaptError
from tasks import Distribution, Episode

__all__ = ["compare"]

Progress = Callable[[Iterable[int]], Iterable[int]]


def compare(
    methods: Mapping[str, Method],
    distribution: Distribution,
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
    adaptations go first: they warm up, and are where FLOPs and memory are measured.

    Raises:
        AdaptError: no methods, no tasks, or a method that changed weights it promised to keep.
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
    forward_flops = count_flops(lambda: context.backbone(first.support_x))
    costs = {}
    for name in methods:
        probe = partial(_probe, adapt[name], first)
        costs[name] = (count_flops(probe) / forward_flops, peak_megabytes(probe, device))

    scores: dict[str, list[tuple[float, float, Curve | None]]] = {name: [] for name in methods}
    for index in progress(range(tasks)):
        episode = _to(distribution.episode(index), device)
        running = [
            name for name, method in methods.items() if method.max_tasks is None or index < method.max_tasks
        ]
        shift = index % len(running) if running else 0
        for name in running[shift:] + running[:shift]:
            scores[name].append(_score(adapt[name], episode, device))

    if fingerprint(context.backbone) != before:
        raise AdaptError(
            f"one of {', '.join(methods)} changed the pretrained weights, which all of them "
            "promise to keep: results are void"
        )
    results = {}
    for name, method in methods.items():
        accuracy, seconds, curves = zip(*scores[name], strict=True)
        watched = tuple(curve for curve in curves if curve is not None)
        results[name] = MethodResult(name, method.role, accuracy, seconds, *costs[name], watched)
    known = context.adapter.info.get("training", {}).get("seconds")
    return Comparison(
        experiment, dict(task), context.seed, device.type, results, known, dict(environment or {})
    )


def _probe(adapt: Callable[..., Predictor], episode: Episode) -> Predictor:
    return adapt(_support(episode), lambda predictor: None)


def _score(
    adapt: Callable[..., Predictor], episode: Episode, device: torch.device
) -> tuple[float, float, Curve | None]:
    """Accuracy on the queries, seconds to adapt, and the curve between if the method showed one."""
    watch = Stopwatch(device)
    points: list[tuple[float, float]] = []

    def look(predictor: Predictor) -> None:
        points.append((watch.stop(), _accuracy(predictor, episode)))
        watch.start()

    watch.start()
    predictor = adapt(_support(episode), look)
    seconds = watch.stop()
    accuracy = _accuracy(predictor, episode)
    if not points:
        return accuracy, seconds, None
    points.append((seconds, accuracy))
    return accuracy, seconds, Curve(*zip(*points, strict=True))


def _accuracy(predictor: Predictor, episode: Episode) -> float:
    with torch.no_grad():
        predicted: Tensor = predictor(episode.query_x).argmax(-1)
    return float((predicted == episode.query_y).double().mean())


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
