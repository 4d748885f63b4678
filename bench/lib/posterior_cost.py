"""What it costs to know how sure one is: passes, seconds, memory."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import torch

from adapt.adapter import FewShotAdapter
from adapt.backbones import call
from adapt.compare.measure import count_flops, peak_megabytes
from adapt.compare.statistics import median_interval
from bench.lib.posterior_rivals import Setting, ours, rivals
from bench.lib.record import Row
from bench.lib.timing import Work, interleaved
from tasks import Episode

__all__ = ["of_predicting", "of_rivals"]

#: Rounds at least, and seconds in which more are made.
ROUNDS, SECONDS = 7, 8.0


def of_predicting(name: str, adapter: FewShotAdapter, episode: Episode, *, quick: bool) -> Iterator[Row]:
    """Predicting the queries, by operations, peak and seconds of a plain pass of the network over them."""
    task, x = adapter.fit(episode.support_x, episode.support_y), episode.query_x

    def forward() -> None:
        with torch.no_grad():
            call(adapter.backbone, {}, x)

    works: dict[str, Work] = {"predict": lambda: task.predict(x), "predictive": lambda: task.predictive(x)}
    if adapter.loss.regression:
        works["predict(return_std=True)"] = lambda: task.predict(x, return_std=True)
    else:
        works["predict_proba(average=True)"] = lambda: task.predict_proba(x, average=True)
    case, one = f"{name}, {len(x)} queries, k = {adapter.state.k}", count_flops(forward)
    flops = {what: count_flops(work) / one for what, work in works.items()}
    peaks = {what: peak_megabytes(work, torch.device("cpu")) for what, work in works.items()}
    yield Row.cost(f"{case}: a plain pass", "memory/peak_mb", _peak(forward), "MB")
    taken = _ratios(forward, works, quick=quick)
    for what in works:
        goal = None if what == "predict" else 1.0 + adapter.state.k
        yield Row.cost(f"{case}: {what}", "cost/forward_equivalents", flops[what], "FE", goal=goal)
        yield from taken[what](f"{case}: {what}", "time/forwards")
        yield Row.cost(f"{case}: {what}", "memory/peak_mb", peaks[what], "MB")


def _peak(work: Work) -> float:
    return peak_megabytes(work, torch.device("cpu"))


def of_rivals(case: str, setting: Setting, episode: Episode) -> Iterator[Row]:
    """Fitting a task and predicting its queries: seconds by those of ours, and peak of the tensors, which of
    what computes without torch is not known."""
    made: Mapping[str, Work] = {name: partial(it, episode) for name, it in rivals(setting).items()}
    own = partial(ours, setting.adapter, episode)
    taken = _ratios(own, made, quick=setting.quick)
    yield Row.cost(f"{case}: posterior", "memory/peak_mb", _peak(own), "MB")
    for name, work in made.items():
        yield from taken[name](f"{case}: {name}", "time/of_posterior")
        if not name.startswith("process"):
            yield Row.cost(f"{case}: {name}", "memory/peak_mb", _peak(work), "MB")


def _ratios(reference: Work, works: Mapping[str, Work], *, quick: bool) -> dict[str, "_Taken"]:
    """Interleaved, after a first round that is not counted."""
    for work in (reference, *works.values()):
        work()
    found = interleaved(reference, works, 2 if quick else ROUNDS, 0.0 if quick else SECONDS)
    return {name: _Taken(found[name]) for name in works}


class _Taken:
    """Ratios of seconds, as rows."""

    def __init__(self, ratios: list[float]) -> None:
        self._ratios = ratios

    def __call__(self, case: str, metric: str) -> Iterator[Row]:
        between = median_interval(self._ratios)
        note = "" if between is None else f"{between[1]:.3g} to {between[2]:.3g}"
        yield Row.cost(case, metric, float(np.median(self._ratios)), "×", n=len(self._ratios), note=note)
