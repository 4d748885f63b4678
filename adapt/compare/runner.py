"""Run methods side by side on the same tasks, interleaved, and measure them from outside."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from adapt.adapter import Context, Method, Predictor, Support
from adapt.adapter.method import Adapt, Unfinished, predicts_together
from adapt.backbones import fingerprint
from adapt.checks import check_setting, least, optional
from adapt.compare.checkpoint import Checkpoint, Probe, Result, asked, entry_of
from adapt.compare.comparison import Comparison, Curve, MethodResult, check_ours
from adapt.compare.energy import Cost, Electricity, mean_power
from adapt.compare.examples import Examples
from adapt.compare.judge import EVERYTHING, Evaluate, Judge
from adapt.compare.many import check_count
from adapt.compare.measure import ProcessPeak, Stopwatch, count_flops, peak_megabytes
from adapt.compare.meters import Meter, find_meter
from adapt.compare.metric import metric_of
from adapt.compare.reliability import Reliability
from adapt.compare.robustness import Robustness
from adapt.errors import AdaptError
from adapt.ranks import ALONE, Ranks
from tasks import Episode, Tasks

__all__ = ["compare", "take_part"]

Progress = Callable[[Iterable[int]], Iterable[int]]

#: Seconds of one adaptation from which on somebody who waits is told.
LONG = 5.0


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
    electricity: Electricity | None = None,
    checkpoint: Path | None = None,
    ours: str | None = None,
    memory: bool = True,
    evaluate: Evaluate = EVERYTHING,
    progress: Progress = lambda indices: indices,
    say: Callable[[str], None] = lambda sentence: None,
    ranks: Ranks = ALONE,
) -> Comparison:
    """Adapt to ``tasks`` episodes with every method.

    Task by task, every method adapts to the same support set (timed) and predicts the same queries (not
    timed); the order of the methods rotates, so that none always runs on a warm or a busy machine. Untimed
    adaptations go first: they warm up, and are where FLOPs, memory and power are measured. The score follows
    from the queries' targets: accuracy for labels, mean squared error for real values.

    Args:
        electricity: what it emits and costs; None or not enabled: energy is not measured. Where the machine
            has no counter, and nothing to estimate from, energies stay unknown.
        checkpoint: a file that keeps every finished task. If it exists, its tasks are not run again; their
            number may differ, everything else must be as it was. Scores are those of an uninterrupted run;
            ``environment["resumed"]`` says that seconds come from more than one process.
        ours: the forward method that the others are compared with; None: the first one. It is named before a
            task is seen, since the best of several on these very tasks would look better than it is.
        memory: whether to measure it, which takes two more adaptations by every method.
        evaluate: what is measured besides.
        progress: wraps the iteration over tasks.
        say: is given a sentence for whoever waits.
        ranks: processes that share the tasks; the others :func:`take_part`. ``environment["processes"]`` says
            how many, since seconds are then of a machine that did more than one thing at a time.

    Raises:
        AdaptError: no methods, ``ours`` not among them, no tasks, a score that is not finite, a method that
            changed weights it promised to keep, or a checkpoint that is damaged or of another comparison.
    """
    if not methods:
        raise AdaptError(
            "no method to compare: choose at least one, as in method=forward or method=[head,forward]"
        )
    tasks = check_count(tasks, distribution)
    for name, method in methods.items():
        some = least(1, "that leaves it no task, give at least 1")
        check_setting(f"{name}: max_tasks", method.max_tasks, optional(some))
    if ours is not None:
        check_ours(ours, {name: method.role for name, method in methods.items()})
    before = fingerprint(context.backbone)
    first = _to(distribution.episode(0), device)
    metric = metric_of(first.query_y)
    question = {}
    if checkpoint is not None:
        question = asked(
            methods, context, first, experiment=experiment, task=task, metric=metric, weights=before
        )
    kept = Checkpoint(checkpoint, question)
    resumed = ranks.said(min(len(kept.done), tasks))
    energy = electricity if electricity is not None and electricity.enabled else None
    if resumed < tasks:
        adapt = {name: method.prepare(context) for name, method in methods.items()}
        if kept.probes is None:
            meter = find_meter(device) if energy is not None else None
            kept.begin(_probes(adapt, context, first, meter, memory, device, say), meter)
        else:
            for name in methods:
                _once(adapt[name], first)  # warms up
        one = _on_task(methods, adapt, distribution, context, device, evaluate)
        indices = range(resumed, tasks)
        for _, entry in zip(progress(indices), ranks.each(indices, one), strict=True):
            kept.add(entry)
        if fingerprint(context.backbone) != before:
            kept.discard()
            raise AdaptError(
                f"one of {', '.join(methods)} changed the pretrained weights, which all of them "
                "promise to keep: results are void"
            )

    where = dict(environment or {})
    if resumed:
        where["resumed"] = f"{resumed} of {tasks} tasks are of an earlier process"
    if ranks.count > 1:
        where["processes"] = ranks.count
    results = {name: _result(name, method, kept, tasks, energy) for name, method in methods.items()}
    source = None
    if energy is not None and any(result.energy_wh is not None for result in results.values()):
        source = kept.energy_source
        where["energy"] = {"meter": kept.meter, **energy.to_dict()}
    known = context.adapter.info.get("training", {}).get("seconds")
    examples = Examples.joined(
        [
            Examples.of([distribution.episode(index).meta]) if found is None else found
            for index, found in enumerate(kept.examples[:tasks])
        ]
    )
    return Comparison(
        experiment,
        dict(task),
        context.seed,
        device.type,
        results,
        known,
        where,
        metric,
        source,
        examples,
        ours,
    )


def take_part(
    methods: Mapping[str, Method],
    distribution: Tasks,
    context: Context,
    *,
    tasks: int,
    device: torch.device,
    ranks: Ranks,
    evaluate: Evaluate = EVERYTHING,
) -> None:
    """Do this process's part of what the first one of ``ranks`` does in :func:`compare`."""
    adapt = {name: method.prepare(context) for name, method in methods.items()}
    first = _to(distribution.episode(0), device)
    for method in adapt.values():
        _once(method, first)  # warms up
    one = _on_task(methods, adapt, distribution, context, device, evaluate)
    for _ in ranks.each(range(ranks.said(), check_count(tasks, distribution)), one):
        pass


def _on_task(
    methods: Mapping[str, Method],
    adapt: Mapping[str, Adapt],
    distribution: Tasks,
    context: Context,
    device: torch.device,
    evaluate: Evaluate,
) -> Callable[[int], dict[str, Any]]:
    """What all methods come to on a task, by its number, as a :class:`Checkpoint` keeps it."""
    pad = getattr(context.backbone, "pad", None)

    def one(index: int) -> dict[str, Any]:
        episode = _to(distribution.episode(index), device)
        metric = metric_of(episode.query_y)
        running = [name for name, it in methods.items() if it.max_tasks is None or index < it.max_tasks]
        shift = index % len(running) if running else 0
        scores = {
            name: _score(adapt[name], episode, Judge(name, metric, pad, evaluate), device)
            for name in running[shift:] + running[:shift]
        }
        return entry_of(scores, Examples.of([episode.meta]))

    return one


def _result(
    name: str, method: Method, kept: Checkpoint, tasks: int, energy: Electricity | None
) -> MethodResult:
    found = [results[name] for results in kept.done[:tasks] if name in results]
    assert kept.probes is not None
    probe = kept.probes[name]
    seconds = tuple(result.seconds for result in found)
    cost = Cost(None, None, None) if energy is None else energy.cost(probe.watts, fmean(seconds))
    return MethodResult(
        name=name,
        role=method.role,
        transductive=predicts_together(method),
        score=tuple(result.score for result in found),
        seconds=seconds,
        forward_equivalents=probe.forward_equivalents,
        peak_mb=probe.peak_mb,
        curves=_curves(found),
        queries=tuple(result.queries for result in found) if all(result.queries for result in found) else (),
        reliability=_joined(Reliability, [result.reliability for result in found]),
        robustness=_joined(Robustness, [result.robustness for result in found]),
        process_mb=probe.process_mb,
        **cost._asdict(),
    )


def _joined(kind: Any, found: list[Any]) -> Any:
    """Of all tasks; None if it is not known of each."""
    return kind.joined(found) if found and None not in found else None


def _curves(found: list[Result]) -> tuple[Curve, ...]:
    """One per task if the method showed itself on any; where it did not, its end is all there is."""
    if not any(result.curve for result in found):
        return ()
    return tuple(result.curve or Curve((result.seconds,), (result.score,)) for result in found)


def _probes(
    adapt: Mapping[str, Adapt],
    context: Context,
    first: Episode,
    meter: Meter | None,
    memory: bool,
    device: torch.device,
    say: Callable[[str], None],
) -> dict[str, Probe]:
    """What one adaptation takes, method by method. Memory of the process comes before that of the tensors:
    the last adaptations leave a heap behind that all methods find grown."""
    # A network that only scales its inputs has no operations that are counted: one for each feature.
    shown = first.support_x if len(first.support_x) else _support(first).unlabelled
    features = context.backbone(shown)
    forward_flops = max(count_flops(lambda: context.backbone(shown)), features.numel())
    found = {}
    for name in adapt:
        if ready := getattr(adapt[name], "ready", None):
            ready(_support(first))
        once, began = partial(_once, adapt[name], first), time.perf_counter()
        with ProcessPeak() as process:
            equivalents = count_flops(once) / forward_flops
        if (seconds := time.perf_counter() - began) >= LONG:
            say(f"{name}: about {seconds:.0f} s a task here; to be measured it adapts a few times")
        watts = None
        # A whole data set takes long, and what warming up holds besides is little of its memory.
        if meter is not None or (memory and not first.meta.whole):
            with ProcessPeak() as process:
                if meter is None:
                    once()
                else:
                    watts = mean_power(once, meter, device)
        found[name] = Probe(equivalents, None, process.megabytes if memory else None, watts)
    if not memory:
        return found
    return {
        name: probe._replace(peak_mb=peak_megabytes(partial(_once, adapt[name], first), device))
        for name, probe in found.items()
    }


def _once(adapt: Adapt, episode: Episode) -> Predictor:
    return adapt(_support(episode), lambda predictor: None)


def _score(adapt: Adapt, episode: Episode, judge: Judge, device: torch.device) -> Result:
    """Adapt with the clock running, which stands still whenever the method shows how far it is; of a
    ``fixed`` task the score of each query is kept."""
    watch = Stopwatch(device)
    points: list[tuple[float, float]] = []

    def look(predictor: Predictor) -> None:
        seconds = watch.stop()
        if isinstance(predictor, Unfinished):  # what the method would still have to do if it stopped here
            finishing = Stopwatch(device).start()
            predictor = predictor.finish()
            seconds += finishing.stop()
        points.append((_later(seconds, points), float(judge.scores(predictor, episode)[0].mean())))
        watch.start()

    watch.start()
    predictor = adapt(_support(episode), look)
    seconds = watch.stop()
    each, known, robustness = judge.whole(predictor, episode)
    score, queries = float(each.mean()), tuple(each.tolist()) if episode.meta.whole else ()
    if not points:
        return Result(score, seconds, None, queries, known, robustness)
    points.append((_later(seconds, points), score))
    return Result(score, seconds, Curve(*zip(*points, strict=True)), queries, known, robustness)


def _later(seconds: float, points: list[tuple[float, float]]) -> float:
    """``seconds``, but not before the last of ``points``: finishing one look may have taken longer than going
    on to the next."""
    return max(seconds, points[-1][0]) if points else seconds


def _support(episode: Episode) -> Support:
    meta = episode.meta
    reserved = tuple(meta.query_indices.tolist())
    further = meta.unlabelled_x
    further = None if further is None else further.to(episode.support_x.device)
    return Support(episode.support_x, episode.support_y, meta.classes, reserved, meta.whole, further)


def _to(episode: Episode, device: torch.device) -> Episode:
    """The same episode with its tensors on ``device``."""
    return Episode(
        support_x=episode.support_x.to(device),
        support_y=episode.support_y.to(device),
        query_x=episode.query_x.to(device),
        query_y=episode.query_y.to(device),
        meta=episode.meta,
    )
