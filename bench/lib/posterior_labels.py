"""Labels: which to ask for next, and which are wrong."""

from collections.abc import Iterator

import numpy as np
import torch

import adapt
from adapt.adapter import FewShotAdapter
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from bench.lib.posterior_classes import Classes, held_out_logits, start_features
from bench.lib.posterior_values import error_of, tasks_of
from bench.lib.record import Row
from tasks import Episode
from tasks.outside import auroc

__all__ = ["asked", "wrong"]

ASKED = {"mlp_sinusoid": (2, 10), "mlp_vehicle_dynamics": (3, 25)}
FLIPPED = 0.1  # of the labels


def asked(quick: bool) -> Iterator[Row]:
    """How many labels reach the error of random ones."""
    for name, (first, last) in ASKED.items():
        yield from _asked(name, first, first + 2 if quick else last, quick=quick)


# ------------------------------------------------------------------------------------------ the next one


def _asked(name: str, first: int, last: int, *, quick: bool) -> Iterator[Row]:
    adapter, count = adapt.load(name), 1 if quick else 200
    pools = tasks_of(name, 10 if quick else 60).episodes(0, count)
    curves = [_curves(adapter, episode, first, last) for episode in pools]
    order, errors = (np.mean([curve[i] for curve in curves], 0) for i in (0, 1))
    enough = first + int(np.argmax(errors <= order[-1])) if (errors <= order[-1]).any() else last
    case = f"{name}, labels that reach the error of {last} random ones"
    yield Row.cost(case, "cost/labels", 100 * enough / last, "%", n=count, goal=60.0)
    for i, what in enumerate(("random", "suggested")):
        interval = mean_interval([curve[i][-1] for curve in curves])
        yield Row.of(f"{name}, {last} labels: {what}", "eval/mse", interval, higher_is_better=False)


def _curves(
    adapter: FewShotAdapter, episode: Episode, first: int, last: int
) -> tuple[list[float], list[float]]:
    """Errors with ``first`` … ``last`` labels, of the pool's order, which is random, and by what is
    suggested."""
    chosen, errors = [*range(first)], []
    for _ in range(first, last + 1):
        task = adapter.fit(episode.support_x[chosen], episode.support_y[chosen])
        errors.append(error_of(task, episode))
        rest = [row for row in range(len(episode.support_x)) if row not in chosen]
        chosen.append(rest[int(task.suggest(episode.support_x[rest])[0])])
    order = [
        error_of(adapter.fit(episode.support_x[:n], episode.support_y[:n]), episode)
        for n in range(first, last + 1)
    ]
    return order, errors


# ------------------------------------------------------------------------------------------ the wrong ones


def wrong(chosen: Classes, count: int) -> Iterator[Row]:
    """Which labels are wrong, a tenth of those of every support set; beside the posterior, a head alone that
    is fitted to the other folds."""
    found: dict[str, list[float]] = {"influence": [], "folds of a head alone": []}
    metas = []
    for number, episode in enumerate(chosen.test.episodes(0, count)):
        y, flipped = _flipped(episode.support_y, number)
        doubt = chosen.adapter.fit(episode.support_x, y, keep=True).influence()
        logits = held_out_logits(chosen.adapter, start_features(chosen.adapter, episode.support_x), y)
        folded = torch.nn.functional.cross_entropy(logits, y, reduction="none").numpy()
        for name, values in (("influence", doubt), ("folds of a head alone", folded)):
            found[name].append(auroc(values[flipped], values[~flipped]))
        metas.append(episode.meta)
    drawn = Examples.of(metas)
    case = f"{chosen.name}, {round(100 * FLIPPED)} % of the labels wrong"
    for name, values in found.items():
        goal = 0.9 if name == "influence" else None
        yield Row.of(f"{case}: {name}", "eval/auroc", mean_interval(values, drawn), goal=goal)
    difference = paired_difference(found["influence"], found["folds of a head alone"], drawn)
    yield Row.of(f"{case}: influence", "compare/auroc_minus_folds", difference)


def _flipped(y: torch.Tensor, number: int) -> tuple[torch.Tensor, np.ndarray]:
    """``y`` with some labels changed, and which, a function of ``number``."""
    generator = torch.Generator().manual_seed(number)
    some, ways = round(FLIPPED * len(y)), int(y.max()) + 1
    wrong = torch.randperm(len(y), generator=generator)[:some]
    changed = y.clone()
    changed[wrong] = (changed[wrong] + 1 + torch.randint(ways - 1, (some,), generator=generator)) % ways
    return changed, np.isin(np.arange(len(y)), wrong)
