"""How sure predictions of values are: −log density, coverage, sharpness and error, beside rivals."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

import adapt
from adapt.adapter import FewShotAdapter, FittedTask
from adapt.compare.statistics import mean_interval, paired_difference
from bench.lib.posterior_adapters import learned
from bench.lib.posterior_rivals import Moments, Rival, Setting, nll, ours, rivals
from bench.lib.record import Row
from tasks import Episode, FunctionTasks, Sinusoid, VehicleDynamics, Volatility

__all__ = ["SHOTS", "adapter_for", "error_of", "setting_of", "tasks_of", "uncertainty"]

SOURCES = {
    "mlp_sinusoid": partial(Sinusoid, noise=0.0),
    "mlp_vehicle_dynamics": VehicleDynamics,
    "volatility": Volatility,
}
SHOTS = {
    "mlp_sinusoid": (2, 3, 5, 10),
    "mlp_vehicle_dynamics": (5, 10, 25, 50),
    "volatility": (5, 10, 25, 50),
}
QUERIES = 60
#: Test tasks of ours, and of rivals; validation tasks.
MANY, FEW, JUDGED = 200, 60, 100
Scores = dict[str, float]


def tasks_of(name: str, shots: int, split: str = "test") -> FunctionTasks:
    return FunctionTasks(SOURCES[name](), shots, QUERIES, split)


def error_of(task: FittedTask, episode: Episode) -> float:
    """Mean squared error of the queries."""
    return float(((task.predict(episode.query_x) - episode.query_y.numpy()) ** 2).mean())


def adapter_for(name: str, folder: Path, *, quick: bool) -> FewShotAdapter:
    """The one that ships, or that of the domain's experiment."""
    return adapt.load(name) if name.startswith("mlp_") else learned(name, folder, quick=quick)


def setting_of(name: str, shots: int, folder: Path, *, quick: bool) -> Setting:
    judged = [*tasks_of(name, shots, "validation").episodes(0, 2 if quick else JUDGED)]
    adapter = adapter_for(name, folder, quick=quick)
    return Setting(name, adapter, tasks_of(name, shots), judged, folder, quick)


def uncertainty(name: str, shots: int, folder: Path, *, quick: bool) -> Iterator[Row]:
    """Of a domain with so many examples."""
    many, few = (3, 2) if quick else (MANY, FEW)
    setting = setting_of(name, shots, folder, quick=quick)
    made: dict[str, Rival] = {"posterior": partial(ours, setting.adapter), **rivals(setting)}
    found: dict[str, list[Scores]] = {method: [] for method in made}
    for number, episode in enumerate(setting.tasks.episodes(0, many)):
        for method, rival in made.items():
            if number < few or method in ("posterior", "one variance"):
                found[method].append(scores(rival(episode), episode))
    yield from rows_of(f"{name}, {shots} examples", found)


def scores(moments: Moments, episode: Episode) -> Scores:
    """Of one task."""
    mean, variance = moments
    error = (mean - episode.query_y.numpy()) ** 2
    sure = np.argsort(variance.ravel())[: variance.size // 2]
    return {
        "nll": nll(moments, episode),
        "coverage": 100 * float((error < 1.96**2 * variance).mean()),
        "sharpness": float(np.sqrt(variance).mean()),
        "mse": float(error.mean()),
        "surer half": float(error.ravel()[sure].mean()),
    }


def rows_of(case: str, found: Mapping[str, list[Scores]]) -> Iterator[Row]:
    """Every method, and ours against each."""
    for method, rows in found.items():
        name = f"{case}: {method}"
        for metric in ("nll", "coverage", "sharpness", "mse"):
            interval = mean_interval([row[metric] for row in rows])
            higher, unit = metric == "coverage", "%" if metric == "coverage" else ""
            goal = 95.0 if metric == "coverage" and method == "posterior" else None
            yield Row.of(name, f"eval/{metric}", interval, unit, higher_is_better=higher, goal=goal)
        if method == "posterior":
            share = np.mean([row["surer half"] for row in rows]) / np.mean([row["mse"] for row in rows])
            yield Row.cost(name, "eval/error_of_surer_half", float(share), "× all", n=len(rows))
            continue
        own, other = ([row["nll"] for row in it[: len(rows)]] for it in (found["posterior"], rows))
        difference = paired_difference(own, other)
        yield Row.of(name, "compare/nll_of_posterior_minus", difference, higher_is_better=False)
        better = 100 * float(np.mean(np.array(own) < np.array(other)))
        yield Row(name, "compare/posterior_better", better, "% of tasks", n=len(rows))
