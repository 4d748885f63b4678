"""Comparisons of the same settings and different seeds as one, with the tasks of all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from adapt.compare.comparison import Comparison, MethodResult
from adapt.compare.examples import Examples
from adapt.compare.result import MEASURED
from adapt.errors import AdaptError

__all__ = ["pool"]

#: Of the environment: seconds of different machines, or with other threads, have no common mean, nor have
#: prices of different grids.
MACHINE = ("device", "threads", "energy")


def pool(comparisons: Sequence[Comparison]) -> Comparison:
    """One comparison of the tasks of all seeds, from comparisons that differ in nothing but the seed.

    Tasks come in turn, the first of every seed, then the second of every seed, so that a costly method, which
    ran on the first few tasks of each, ran on the first few of the pooled ones too: differences stay paired.
    Examples that tasks of several seeds share count once, as within a seed.
    Operations, energy, emissions and cost are means; memory is the most of any seed.
    The seed is that of the first comparison; ``task["seeds"]`` says all of them, ``task["tasks"]`` how many
    tasks there are in all.

    Raises:
        AdaptError: no comparison; two of the same seed; or a difference in experiment, task, metric, machine,
            meta-training, methods, or in how many tasks of a seed a method ran on.

    Example:
        >>> from adapt.compare import MethodResult
        >>> def run(seed, *score):
        ...     head = MethodResult("head", "head", score, (1.0,) * len(score), 1.0, 1.0)
        ...     return Comparison("toy", {"source": "toy", "tasks": len(score)}, seed, "cpu", {"head": head})
        >>> both = pool([run(0, 0.1, 0.2), run(1, 0.3, 0.4)])
        >>> both.methods["head"].score, both.task
        ((0.1, 0.3, 0.2, 0.4), {'source': 'toy', 'tasks': 4, 'seeds': [0, 1]})
    """
    if not comparisons:
        raise AdaptError("no comparison to pool: give those of one experiment, one for each seed")
    first, *others = comparisons
    seeds = [comparison.seed for comparison in comparisons]
    if len(set(seeds)) < len(seeds):
        raise AdaptError(f"comparisons of the seeds {seeds}: each seed's tasks can be counted once only")
    for other in others:
        _same(f"seeds {first.seed} and {other.seed}", _settings(first), _settings(other))
    methods = {name: _pooled([run.methods[name] for run in comparisons]) for name in first.methods}
    tasks = max((method.n for method in methods.values()), default=0)
    return replace(
        first,
        task={**first.task, "tasks": tasks, "seeds": seeds},
        methods=methods,
        environment=_shared(comparisons),
        examples=Examples.joined([comparison.examples for comparison in comparisons], in_turn=True),
    )


def _settings(run: Comparison) -> dict[str, Any]:
    """What must not differ, by the name under which a message says it."""
    return {
        "experiment": run.experiment,
        **{f"task.{key}": value for key, value in run.task.items()},
        "metric": run.metric.noun,
        "device": run.device,
        **{f"environment.{key}": run.environment.get(key) for key in MACHINE},
        "seconds of meta-training": run.meta_seconds,
        "energy_source": run.energy_source,
        "methods": list(run.methods),
        "ours": run.ours.name if run.ours else None,
        **{f"role of {name}": method.role for name, method in run.methods.items()},
        **{f"number of tasks of {name}": method.n for name, method in run.methods.items()},
        **{f"number of curves of {name}": len(method.curves) for name, method in run.methods.items()},
    }


def _same(which: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for key in [*one, *(key for key in other if key not in one)]:
        if one.get(key) != other.get(key):
            raise AdaptError(
                f"comparisons of {which} differ in {key} ({one.get(key)}, {other.get(key)}): pool only what "
                "differs in the seed"
            )


def _shared(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """What all environments have in common."""
    first, *others = (comparison.environment for comparison in comparisons)
    return {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}


def _pooled(results: Sequence[MethodResult]) -> MethodResult:
    """Of one method, with its tasks in turn."""

    def merged(attribute: str, how: Callable[[Any], Any]) -> float | None:
        values = [getattr(result, attribute) for result in results]
        return None if None in values else float(how(values))

    def joined(name: str) -> Any:
        known = [getattr(result, name) for result in results]
        return None if None in known else MEASURED[name].joined(known)

    return replace(
        results[0],
        examples=None,
        share=False,
        score=_in_turn([result.score for result in results]),
        seconds=_in_turn([result.seconds for result in results]),
        curves=_in_turn([result.curves for result in results]),
        queries=_in_turn([result.queries for result in results]),
        **{name: joined(name) for name in MEASURED},
        forward_equivalents=float(np.mean([result.forward_equivalents for result in results])),
        peak_mb=merged("peak_mb", max),
        energy_wh=merged("energy_wh", np.mean),
        co2_g=merged("co2_g", np.mean),
        usd=merged("usd", np.mean),
        process_mb=merged("process_mb", max),
    )


def _in_turn(tasks: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The first of each, the second of each, and so on; all are equally long."""
    return tuple(chain.from_iterable(zip(*tasks, strict=True)))
