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
from tasks import Digits, Distribution, Episode
from tasks.outside import auroc

__all__ = ["asked", "flipped", "wrong"]

ASKED = {"mlp_sinusoid": (2, 10), "mlp_vehicle_dynamics": (3, 25)}
FLIPPED = 0.1  # of the labels
AT_ONCE = 5  # labels of digits


def asked(quick: bool) -> Iterator[Row]:
    """How many labels reach the error of random ones."""
    for name, (first, last) in ASKED.items():
        yield from _asked(name, first, first + 2 if quick else last, quick=quick)
    yield from _asked_digits(quick)


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


def _asked_digits(quick: bool) -> Iterator[Row]:
    """The same of digits: one label of each at first, then five at a time."""
    adapter, count, last = adapt.load("conv4_glyphs_film"), 1 if quick else 30, 15 if quick else 50
    digits = Distribution(Digits(), 10, 12, 30, support_split="support", query_split="query")
    order, errors = [], []
    for number, episode in enumerate(digits.episodes(0, count)):
        x, y = episode.support_x, episode.support_y
        rank = (y[:, None] == y[None]).tril(-1).sum(1)
        mixed = torch.randperm(len(y), generator=torch.Generator().manual_seed(number))
        chosen = torch.cat([mixed[rank[mixed] == 0], mixed[rank[mixed] > 0]])[:last].tolist()
        order.append(1 - adapter.fit(x[chosen], y[chosen]).score(episode.query_x, episode.query_y))
        chosen, curve = chosen[:10], list[float]()
        while len(chosen) <= last:
            task = adapter.fit(x[chosen], y[chosen])
            curve.append(1 - task.score(episode.query_x, episode.query_y))
            rest = [row for row in range(len(y)) if row not in chosen]
            chosen += [rest[row] for row in task.suggest(x[rest], AT_ONCE)]
        errors.append(curve)
    enough = np.mean(errors, 0) <= np.mean(order)
    needed = 10 + AT_ONCE * int(np.argmax(enough)) if enough.any() else last
    case = f"digits, labels that reach the error of {last} random ones"
    yield Row.cost(case, "cost/labels", 100 * needed / last, "%", n=count, goal=60.0)
    for what, values in (("random", order), ("suggested", [curve[-1] for curve in errors])):
        interval = mean_interval([100 * value for value in values])
        yield Row.of(f"digits, {last} labels: {what}", "eval/error", interval, "%", higher_is_better=False)


# ------------------------------------------------------------------------------------------ the wrong ones


def wrong(chosen: Classes, count: int) -> Iterator[Row]:
    """Which labels are wrong, a tenth of those of every support set; beside the posterior, a head alone that
    is fitted to the other folds."""
    found: dict[str, list[float]] = {"influence": [], "folds of a head alone": []}
    metas = []
    for number, episode in enumerate(chosen.test.episodes(0, count)):
        y, changed = flipped(episode.support_y, number)
        doubt = chosen.adapter.fit(episode.support_x, y, keep=True).influence()
        logits = held_out_logits(chosen.adapter, start_features(chosen.adapter, episode.support_x), y)
        folded = torch.nn.functional.cross_entropy(logits, y, reduction="none").numpy()
        for name, values in (("influence", doubt), ("folds of a head alone", folded)):
            found[name].append(auroc(values[changed], values[~changed]))
        metas.append(episode.meta)
    drawn = Examples.of(metas)
    case = f"{chosen.name}, {round(100 * FLIPPED)} % of the labels wrong"
    for name, values in found.items():
        goal = 0.9 if name == "influence" else None
        yield Row.of(f"{case}: {name}", "eval/auroc", mean_interval(values, drawn), goal=goal)
    difference = paired_difference(found["influence"], found["folds of a head alone"], drawn)
    yield Row.of(f"{case}: influence", "compare/auroc_minus_folds", difference)


def flipped(y: torch.Tensor, number: int, share: float = FLIPPED) -> tuple[torch.Tensor, np.ndarray]:
    """``y`` with a share of the labels changed, and which, a function of ``number``."""
    generator = torch.Generator().manual_seed(number)
    some, ways = round(share * len(y)), int(y.max()) + 1
    wrong = torch.randperm(len(y), generator=generator)[:some]
    changed = y.clone()
    changed[wrong] = (changed[wrong] + 1 + torch.randint(ways - 1, (some,), generator=generator)) % ways
    return changed, np.isin(np.arange(len(y)), wrong)
