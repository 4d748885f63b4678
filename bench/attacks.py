"""What somebody can do who means harm: to queries, to examples that a task learns from, to those in it.

``python -m bench.attacks [names] [--quick]``. ``names``: of the parts. *Queries*: changed by gradients
(:mod:`adapt.compare.attacks`), photographs of CIFAR-FS and scanned digits. *Labels*: a share of them is
wrong. *Examples*: a share of them is noise. *One example* more: of 50 with any label, the one that costs
most, found by whoever may ask as often as he likes. *Membership*: is an example one of those that a released
task was fitted to? By its likelihood ratio against 32 tasks without it (Carlini, Chien, Nasr, Song, Terzis,
Tramèr 2022, *Membership Inference Attacks From First Principles*, algorithm 1, offline).
"""

import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.app.progress import progress
from adapt.backbones import call
from adapt.compare.attacks import attacked
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval
from adapt.heads import Head, Prototype
from adapt.inner import GaussNewton
from adapt.memory import keep_freed_memory
from adapt.spaces import film
from bench.lib.choosing import HEAD
from bench.lib.membership import ratios
from bench.lib.models import data_root
from bench.lib.posterior_labels import flipped
from bench.lib.record import Row, options, report
from bench.trust import Case, digits, photographs, requests, untrained
from tasks import Episode
from tasks.outside import auroc

DEPENDS = (
    "adapt/adapter",
    "adapt/heads",
    "adapt/inner",
    "adapt/compare/attacks.py",
    "bench/lib/membership.py",
)
RADII = (2 / 255, 8 / 255)
SHARES = (0.0, 0.1, 0.2, 0.4)
CANDIDATES = 50
ROBUST: dict[str, Head] = {
    "means": Prototype(),
    "trimmed means": Prototype(center="trimmed"),
    "medians": Prototype(center="median"),
}
Fit = Callable[[Tensor, Tensor], FittedTask]


def fits(case: Case) -> dict[str, Fit]:
    """Ways to learn from examples among which some are not what they seem; the last on the network as it
    is."""
    backbone, still = case.adapter.backbone, GaussNewton(steps=0)
    own = {
        said: FewShotAdapter.of(backbone, film, solver=still, head=head).fit for said, head in ROBUST.items()
    }
    return {"plain": case.adapter.fit, "trimmed": partial(case.adapter.fit, trim=True), **own}


def queries(quick: bool) -> Iterator[Row]:
    """Accuracy where each query is changed so that it hurts most."""
    cases = {"digits": digits, "photographs": photographs}
    for name in ["digits"] if quick else cases:
        case = cases[name]()
        backbone = case.adapter.backbone
        methods = {
            "head": untrained(backbone),
            "forward": case.adapter if name == "digits" else FewShotAdapter.of(backbone, film, head=HEAD),
        }
        scores: dict[str, list[float]] = {}
        metas = []
        for index in progress(f"queries: {name}")(range(1 if quick else 10)):
            episode = case.tasks.episode(index)
            for method, adapter in methods.items():
                task = adapter.fit(episode.support_x, episode.support_y)
                for radius in RADII[: 1 if quick else None]:
                    steps = 2 if quick else 20
                    x = attacked(
                        partial(_logits, task), episode.query_x, episode.query_y, radius, steps=steps
                    )
                    key = f"queries: {name}: {method}: {255 * radius:.0f}/255"
                    scores.setdefault(key, []).append(task.score(x, episode.query_y))
                key = f"queries: {name}: {method}: 0"
                scores.setdefault(key, []).append(task.score(episode.query_x, episode.query_y))
            metas.append(episode.meta)
        yield from _rows(scores, metas)


def _logits(task: FittedTask, x: Tensor) -> Tensor:
    features = call(task.adapter.backbone, task.parameters, x)
    return task.adapter.head.logits(task.head_state, features)


def supports(quick: bool) -> Iterator[Row]:
    """Accuracy against the share of examples that are not what they seem, and against a single one."""
    cases = {"digits": lambda: digits(10, ways=10, outside=0), "requests": lambda: requests(10)}
    for name in ["digits"] if quick else cases:
        case, metas = cases[name](), []
        scores: dict[str, list[float]] = {}
        for index in progress(f"supports: {name}")(range(1 if quick else 30 if name == "digits" else 10)):
            episode = case.tasks.episode(index)
            for said, fit in fits(case).items():
                for share in SHARES[: 2 if quick else None]:
                    labels = flipped(episode.support_y, index, share)[0] if share else episode.support_y
                    task = fit(episode.support_x, labels)
                    key = f"labels: {name}: {said}: {share:.0%}"
                    scores.setdefault(key, []).append(task.score(episode.query_x, episode.query_y))
                for share in SHARES[1 : 2 if quick else None]:
                    x, y = mixed(episode, share, index)
                    key = f"examples: {name}: {said}: {share:.0%}"
                    scores.setdefault(key, []).append(fit(x, y).score(episode.query_x, episode.query_y))
            metas.append(episode.meta)
        yield from _rows(scores, metas)


def mixed(episode: Episode, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Support set of which a share is noise: the pixels, or words, of any of its examples in any order."""
    x, y = episode.support_x.clone(), episode.support_y
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(x), round(share * len(x)), replace=False)
    for row in rows:
        flat = episode.support_x[int(rng.integers(len(x)))].flatten()
        drawn = torch.from_numpy(rng.permutation(len(flat)))
        x[row] = flat[drawn].reshape(x[row].shape)
    return x, y


def crafted(quick: bool) -> Iterator[Row]:
    """Accuracy with one example more, the worst of those that there are."""
    case = digits(5)
    scores: dict[str, list[float]] = {}
    metas = []
    for index in progress("one example")(range(1 if quick else 20)):
        episode, others = case.tasks.episode(index), case.tasks.episode(10_000 + index)
        rng = np.random.default_rng(index)
        ways = len(episode.meta.classes)
        for said, fit in fits(case).items():
            tried = []
            for _ in range(2 if quick else CANDIDATES):
                row, label = int(rng.integers(len(others.query_x))), int(rng.integers(ways))
                x = torch.cat([episode.support_x, others.query_x[row : row + 1]])
                y = torch.cat([episode.support_y, torch.tensor([label])])
                tried.append(fit(x, y).score(episode.query_x, episode.query_y))
            plain = fit(episode.support_x, episode.support_y).score(episode.query_x, episode.query_y)
            scores.setdefault(f"one example: digits: {said}: none", []).append(plain)
            scores.setdefault(f"one example: digits: {said}: worst", []).append(min(tried))
        metas.append(episode.meta)
    yield from _rows(scores, metas)


def membership(quick: bool) -> Iterator[Row]:
    """How well members are told from others of the same classes."""
    cases = {"digits": digits, "photographs": photographs, "requests": requests}
    for name in ["digits"] if quick else cases:
        case = cases[name]()
        for shots in (5,) if quick else (1, 5, 10):
            inside, outside, per_task = [], [], []
            for index in progress(f"membership: {name}, {shots} shots")(range(1 if quick else 20)):
                members, others = ratios(case, shots, index, shadows=4 if quick else 32)
                inside.append(members)
                outside.append(others)
                per_task.append(auroc(members, others))
            shown = f"membership: {name}: {shots} shots"
            yield Row.of(
                shown, "trust/auroc", mean_interval(per_task).times(100), "%", higher_is_better=False
            )
            least = np.quantile(np.concatenate(outside), 0.99)
            share = float((np.concatenate(inside) > least).mean())
            yield Row.cost(shown, "trust/tpr_at_1", 100 * share, "%", n=sum(map(len, inside)))


def _rows(scores: dict[str, list[float]], metas: list) -> Iterator[Row]:
    drawn = Examples.of(metas)
    for case, values in scores.items():
        yield Row.of(case, "eval/accuracy", mean_interval(values, drawn).times(100), "%")


PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "queries": queries,
    "supports": supports,
    "crafted": crafted,
    "membership": membership,
}


def main() -> None:
    arguments = options(__doc__, names=f"parts, of {', '.join(PARTS)}").parse_args()
    keep_freed_memory()
    os.environ.setdefault("ADAPT_DATA", str(data_root()))
    found: list[Row] = []
    for name in arguments.names or [*PARTS]:
        found += PARTS[name](arguments.quick)
    report("attacks", found, arguments)


if __name__ == "__main__":
    main()
