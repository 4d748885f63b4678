"""The regression gate: whether a challenger may take the place of a champion.

Both adapt to the same tasks, so every difference is paired. The tasks are cut into slices: all of them, by
shots, by domain, by class. With d the mean gain of the challenger on a slice, (l, h) its 95 % interval
(Student's t, paired; examples that tasks share count once, see :mod:`adapt.compare.examples`) and m > 0 the
tolerance, a slice is

    ok       l ≥ −m       it is shown that the challenger is worse by no more than m (non-inferiority)
    worse    h < −m       it is shown that it is worse by more than m
    unclear  otherwise    too few tasks, or too few examples behind them, to show either

The challenger passes if all tasks together, every number of shots and every domain are ok. Several tests
need no correction there: a challenger that is too much worse anywhere passes with at most the probability of
the one test that it must pass (2.5 %), since it has to pass all of them (Berger 1982, intersection–union).
Classes can be hundreds with a few tasks each, on which nothing could be shown even of the champion itself; so
a class refuses only if it is shown to be worse, by the one-sided test of d ≥ −m at 5 % over all classes
together (Holm 1979), and only classes with 30 tasks or more are judged. By the same test refuse groups of
examples, and what is asked of how far a version may be believed: its probabilities (−log p, Brier), worse
queries (:mod:`tasks.worse`), examples of no class where tasks have some, and a fifth of wrong labels where
there are five examples of every class.

The tolerance is in the unit of a score that has a greatest value (0.01 = one point of accuracy); for an error
it is a share of the champion's (0.01 = one per cent).

References: Piaggio et al., *Reporting of noninferiority and equivalence randomized trials*, JAMA 308 (2012);
Berger, *Multiparameter hypothesis testing and acceptance sampling*, Technometrics 24 (1982); Holm, *A simple
sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch

from adapt.adapter import FewShotAdapter
from adapt.checks import check_setting, least, positive
from adapt.compare.examples import Examples
from adapt.compare.gate_scores import TRUSTED, trusted
from adapt.compare.metric import Metric, metric_of
from adapt.compare.statistics import LEVEL, ROUNDING, Interval, difference_of, holm
from adapt.errors import AdaptError
from tasks import Episode, Tasks

__all__ = ["CLASS", "GROUP", "LEVEL", "TOGETHER", "TRUST", "Gate", "Slice", "judge", "run_gate"]

#: Fewest tasks of a class that is judged: below, the mean of paired differences is far from normal.
CLASS_TASKS = 30
#: Kinds of slices; the key of a slice is its kind and its name.
TOGETHER, SHOTS, DOMAIN, CLASS, GROUP, TRUST = "all", "shots", "domain", "class", "group", "trust"
#: Kinds that refuse only if they are shown to be worse, each by one test over all of its slices.
SHOWN = (CLASS, GROUP, TRUST)

Key = tuple[str, str]
Pairs = Mapping[Key, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Slice:
    """The tasks that have something in common.

    Attributes:
        kind: ``all``, ``shots``, ``domain``, ``class``, ``group`` or ``trust``.
        name: of the number of shots, the domain, the class, the group; what is asked.
        champion, challenger: mean score over the ``n`` tasks.
        difference: challenger − champion, with the half-width of its paired 95 % interval, if it has one.
        margin: how much worse is tolerated, in the unit of the score.
        verdict: ``ok``, ``worse``, ``unclear``, or ``few`` where a class has too few tasks to be judged.
        metric: of the scores.
    """

    kind: str
    name: str
    champion: float
    challenger: float
    difference: Interval
    margin: float
    verdict: str
    metric: Metric

    @property
    def refuses(self) -> bool:
        """Whether this slice alone keeps the challenger out."""
        return self.verdict in ("worse", "unclear")

    def __str__(self) -> str:
        if self.kind == TRUST:
            return self.name
        return "all tasks" if self.kind == TOGETHER else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Gate:
    """What the gate found.

    Attributes:
        slices: all tasks first, then by shots, domain and class.
        tolerance: as it was asked for.
        tasks: how many there were.
        metric: of the scores.
        examples: what the tasks were drawn from; None: not known.
    """

    slices: tuple[Slice, ...]
    tolerance: float
    tasks: int
    metric: Metric
    examples: Examples | None = None

    @property
    def refusals(self) -> tuple[Slice, ...]:
        """The slices that keep the challenger out."""
        return tuple(found for found in self.slices if found.refuses)

    @property
    def passed(self) -> bool:
        """Whether the challenger may take the champion's place."""
        return not self.refusals


def run_gate(
    champion: FewShotAdapter,
    challenger: FewShotAdapter,
    tasks: Mapping[str, Tasks],
    *,
    count: int,
    tolerance: float = 0.01,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda steps: steps,
) -> Gate:
    """Adapt both to the first ``count`` tasks of every entry, and judge.

    Args:
        champion: what is used today.
        challenger: what may replace it, on the same device.
        tasks: by shots, of one source. Give each a seed of its own, for tasks that are not the same.
        count: tasks of each entry, at least 2.
        tolerance: see the module.
        progress: wraps the iteration over all tasks.

    Raises:
        AdaptError: adapters for examples of different shape or tasks of different kind, too few tasks, or
            scores that are not finite.
    """
    kinds = {adapter.loss.regression for adapter in (champion, challenger)}
    if champion.input_shape != challenger.input_shape or len(kinds) > 1:
        raise AdaptError(
            f"the champion takes examples of shape {champion.input_shape}, the challenger of "
            f"{challenger.input_shape}, or their tasks differ in kind: no tasks judge both"
        )
    check_setting("count", count, least(0))
    if count < 2 or not tasks:
        raise AdaptError(f"{count} tasks: at least two are needed to tell chance from difference")
    device = champion.state.origin.device
    found: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    drawn: dict[Key, list[Examples]] = defaultdict(list)
    names = [*tasks]
    for step in progress(range(count * len(names))):
        index, which = divmod(step, len(names))
        episode = tasks[names[which]].episode(index)
        metric = metric_of(episode.query_y)
        support = (episode.support_x.to(device), episode.support_y.to(device))
        fitted = [it.fit(*support) for it in (champion, challenger)]
        outputs = [task.logits(episode.query_x.to(device)) for task in fitted]
        scores = [dict(_scores(said, episode, metric)) for said in outputs]
        keys = [(SHOTS, names[which])] if len(names) > 1 else []
        if episode.meta.domain is not None:
            keys.append((DOMAIN, episode.meta.domain))
        labels = episode.query_y.cpu().numpy()
        for key, (old, new) in {key: (value, scores[1][key]) for key, value in scores[0].items()}.items():
            rows = slice(None) if key[0] == TOGETHER else labels == episode.meta.classes.index(key[1])
            queries = episode.meta.query_indices
            own = replace(episode.meta, query_indices=queries[rows] if len(queries) else queries)
            for slice_ in [key, *(keys if key[0] == TOGETHER else [])]:
                found[slice_].append((old, new))
                drawn[slice_].append(Examples.of([own]))
        both = zip((champion, challenger), fitted, outputs, strict=True)
        asked = [trusted(it, task, said, episode, metric, device) for it, task, said in both]
        for name, old in asked[0].items():
            found[TRUST, name].append((old, asked[1][name]))
            drawn[TRUST, name].append(Examples.of([episode.meta]))
    joined = {key: Examples.joined(parts) for key, parts in drawn.items()}
    return judge(found, metric, tolerance, joined)


def _scores(outputs: torch.Tensor, episode: Episode, metric: Metric) -> Iterator[tuple[Key, float]]:
    """The score on the queries, whose ``outputs [m, C]`` these are, and that on those of every class."""
    truth = episode.query_y.to(outputs.device)
    score = metric.measure(outputs, truth)
    if not math.isfinite(score):
        raise AdaptError(f"an adapter diverged on task {episode.meta.index} ({metric.noun} {score})")
    yield (TOGETHER, ""), score
    for label, name in enumerate(episode.meta.classes):
        rows = truth == label
        if bool(rows.any()):
            yield (CLASS, name), metric.measure(outputs[rows], truth[rows])


def judge(
    pairs: Pairs,
    metric: Metric,
    tolerance: float = 0.01,
    examples: Mapping[Key, Examples | None] = MappingProxyType({}),
) -> Gate:
    """The verdict on scores that were measured already.

    Args:
        pairs: slice → (champion's score, challenger's score) of each of its tasks; ``(TOGETHER, "")`` is
            needed.
        metric: of the scores.
        tolerance: see the module; positive.
        examples: slice → what its tasks were drawn from; of a slice without, tasks are independent.

    Example:
        >>> from adapt.compare import ACCURACY
        >>> same = [(0.9, 0.9), (0.8, 0.8)] * 300
        >>> judge({(TOGETHER, ""): same}, ACCURACY).passed
        True
        >>> worse = [(0.9, 0.86), (0.8, 0.76)] * 300
        >>> gate = judge({(TOGETHER, ""): same, ("shots", "1"): worse}, ACCURACY)
        >>> [str(found) for found in gate.refusals]
        ['shots 1']
    """
    check_setting(
        "tolerance", tolerance, positive("it must be positive; not even equality can be shown exactly")
    )
    order = {kind: place for place, kind in enumerate((TOGETHER, SHOTS, DOMAIN, TRUST, GROUP, CLASS))}
    keys = sorted(pairs, key=lambda key: order[key[0]])
    metrics = {(TRUST, name): asked for name, asked in TRUSTED.items()}
    judged = [_slice(key, pairs[key], metrics.get(key, metric), tolerance, examples.get(key)) for key in keys]
    adjusted = {
        kind: iter(holm([chance for it, chance in judged if it.kind == kind and it.verdict != "few"]))
        for kind in SHOWN
    }
    slices = []
    for found, _ in judged:
        if found.kind in SHOWN and found.verdict != "few":
            found = replace(found, verdict="worse" if next(adjusted[found.kind]) <= LEVEL else "ok")
        slices.append(found)
    return Gate(tuple(slices), tolerance, len(pairs[TOGETHER, ""]), metric, examples.get((TOGETHER, "")))


def _slice(
    key: Key,
    pairs: Sequence[tuple[float, float]],
    metric: Metric,
    tolerance: float,
    examples: Examples | None,
) -> tuple[Slice, float]:
    """The slice, and the chance of such a difference if the challenger were worse by just the margin."""
    old, new = np.asarray(pairs, dtype=float).T
    margin = tolerance if math.isfinite(metric.most) else tolerance * float(old.mean())
    better, worse = (new, old) if metric.higher_is_better else (old, new)
    gain = difference_of(better, worse, examples, shares=metric.share)
    half = gain.interval.ci95
    above = gain.mean + margin  # the margin that is left
    if half is not None and above - half >= -ROUNDING:
        verdict = "ok"
    elif half is not None and above + half < -ROUNDING:
        verdict = "worse"
    else:
        verdict = "unclear"
    if key[0] in (CLASS, GROUP) and gain.n < CLASS_TASKS:
        verdict = "few"
    difference = gain.interval._replace(mean=float((new - old).mean()))
    found = Slice(*key, float(old.mean()), float(new.mean()), difference, margin, verdict, metric)
    return found, gain.below(-margin)
