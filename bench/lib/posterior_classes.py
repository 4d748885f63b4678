"""How sure predictions of classes are: −log probability, calibration error and accuracy, beside a head alone,
a temperature chosen by folds of the support set, and laplace-torch on the head."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

import adapt
from adapt.adapter import FewShotAdapter, FittedTask
from adapt.adapter.problem import features_of
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.heads import one_hot
from adapt.heads.base import normalise, with_constant
from adapt.meta import calibrated
from bench.inner_loops import COMMON, TRAINING
from bench.lib.choosing import adapter_of
from bench.lib.domains import available, domain
from bench.lib.posterior_adapters import learned
from bench.lib.posterior_rivals import has_laplace, laplace
from bench.lib.record import Row
from tasks import Digits, Distribution, Episode, Gridworld, GroupedTasks, Tasks

__all__ = ["Classes", "class_domains", "classes", "digits", "held_out_logits", "intents"]

FOLDS, BINS = 5, 15
#: Of the prior of laplace-torch, chosen on validation tasks.
PRECISIONS = (1.0, 10.0, 100.0, 1e3, 1e4)
PLAIN, FOLDED, AVERAGED = "head alone", "head alone, temperature by folds", "adapted, averaged over z"
LAPLACE = "adapted, laplace-torch on the head"


@dataclass(frozen=True)
class Classes:
    """A domain, and how many of its tasks are for choosing and for testing."""

    name: str
    adapter: FewShotAdapter
    test: Tasks
    validation: Tasks
    judged: int
    tested: int


def digits(shots: int, *, quick: bool) -> Classes:
    """Scanned digits, by the adapter that ships; it learned from glyphs, and so are validation tasks."""
    ways = 4 if quick else 10
    test = Distribution(Digits(), ways, shots, 10, support_split="support", query_split="query")
    judged = test if quick else domain("conv4").validation  # a miniature shows nothing
    adapter: FewShotAdapter = adapt.load("conv4_glyphs_film")
    return Classes(f"digits, {ways} x {shots}", adapter, test, judged, 1 if quick else 5, 1 if quick else 30)


def gridworld(shots: int, folder: Path, *, quick: bool) -> Classes:
    adapter = learned("gridworld", folder, quick=quick)
    test, validation = (
        GroupedTasks(Gridworld(6, "agent", flat=True), shots, 10, split) for split in ("test", "validation")
    )
    return Classes(
        f"gridworld, 4 x {shots}", adapter, test, validation, 1 if quick else 20, 1 if quick else 80
    )


def intents(inner_loops: Path, folder: Path, *, quick: bool) -> Classes:
    """Requests to a bank, by an adapter that learned from others, as in ``bench/inner_loops.py``, which keeps
    it; calibrated here."""
    chosen = domain("minilm", quick=quick)
    path, count = folder / "intents", 1 if quick else 12
    if not (path / "adapter_config.json").exists():
        made = adapter_of(chosen, TRAINING.get("minilm", COMMON), inner_loops / "minilm", quick=quick)
        calibrated(made, chosen.validation, count).save_pretrained(path)
    adapter = adapt.load(path, chosen.backbone)
    name = f"intents, {chosen.test.ways} x {chosen.test.shots}"
    return Classes(name, adapter, chosen.test, chosen.validation, 1 if quick else 3, 1 if quick else 20)


def class_domains(folder: Path, inner_loops: Path, *, quick: bool) -> dict[str, Callable[[], Classes]]:
    """By name; those that can be built here."""
    if quick:
        return {"digits, 4 x 5": partial(digits, 5, quick=True)}  # the others differ in their data only
    found: dict[str, Callable[[], Classes]] = {}
    for shots in (2, 5):
        found[f"digits, 10 x {shots}"] = partial(digits, shots, quick=quick)
    for shots in (2, 5):
        found[f"gridworld, 4 x {shots}"] = partial(gridworld, shots, folder, quick=quick)
    if reason := available("minilm"):
        print(f"left out: {reason}")
    else:
        found["intents, 10 x 5"] = partial(intents, inner_loops, folder, quick=quick)
    return found


# ------------------------------------------------------------------------------------------ probabilities


def start_features(adapter: FewShotAdapter, x: Tensor) -> Tensor:
    """At z = 0."""
    with torch.no_grad():
        found: Tensor = features_of(adapter.backbone, adapter.space, adapter.state, x)(
            torch.zeros(adapter.state.k)
        )
    return found


def held_out_logits(adapter: FewShotAdapter, features: Tensor, y: Tensor) -> Tensor:
    """Of every support example ``[n, C]``, by heads that were fitted to the other folds."""
    targets = one_hot(y, int(y.max()) + 1, features.dtype)
    rank = (y[:, None] == y[None, :]).tril(-1).sum(1)
    fold, found = rank % min(FOLDS, int(rank.max()) + 1), torch.zeros_like(targets)
    for number in fold.unique():
        rest, held = fold != number, fold == number
        found[held] = adapter.head.logits(adapter.head.fit(features[rest], targets[rest]), features[held])
    return found


def temperature(logits: Tensor, y: Tensor) -> float:
    """Of the least −log probability (Guo et al. 2017)."""
    loss = lambda log: float(cross_entropy(logits / float(np.exp(log)), y))  # noqa: E731
    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def probabilities(adapter: FewShotAdapter, episode: Episode, precision: float | None) -> dict[str, Tensor]:
    """Of the queries ``[m, C]``, by method. ``precision``: of laplace-torch; None: without it."""
    x, y, new = episode.support_x, episode.support_y, episode.query_x
    features, targets = start_features(adapter, x), one_hot(y, int(y.max()) + 1, torch.float32)
    head = adapter.head.fit(features, targets)
    plain = adapter.head.logits(head, start_features(adapter, new))
    cooled = plain / temperature(held_out_logits(adapter, features, y), y)
    task = adapter.fit(x, y)
    logits = task.logits(new)
    found = {PLAIN: plain, FOLDED: cooled, "adapted": logits}
    found = {name: value.softmax(1) for name, value in found.items()}
    if task.posterior is None:  # z stayed at its start: there is nothing to average over
        found |= dict.fromkeys(("adapted, learned temperature", AVERAGED), found["adapted"])
    else:
        known = task.predictive(new)
        found["adapted, learned temperature"] = (logits / known.noise).softmax(1)
        found[AVERAGED] = torch.from_numpy(known.probabilities)
    if precision is not None:
        found[LAPLACE] = _laplaced(_laplace(task, x, y), precision, _adapted(task, new))
    return found


def _adapted(task: FittedTask, x: Tensor) -> Tensor:
    """Inputs of the logistic head."""
    adapter = task.adapter
    with torch.no_grad():
        features = features_of(adapter.backbone, adapter.space, adapter.state, x)(task.z)
        return with_constant(normalise(features))


def _laplace(task: FittedTask, x: Tensor, y: Tensor) -> Any:
    """laplace-torch for the logistic head that was fitted to the adapted features."""
    state = task.head_state
    network = torch.nn.Linear(*state.shape, bias=False)
    with torch.no_grad():
        network.weight.copy_(state.T)
    examples = torch.utils.data.TensorDataset(_adapted(task, x), y)
    found = laplace()(network, "classification", subset_of_weights="all", hessian_structure="kron")
    found.fit(torch.utils.data.DataLoader(examples, batch_size=len(examples)))
    return found


def _laplaced(found: Any, precision: float, features: Tensor) -> Tensor:
    found.prior_precision = precision
    with torch.no_grad():
        mean: Tensor = found(features, link_approx="probit")
    return mean


def _precision(chosen: Classes) -> float | None:
    """Of the prior of laplace-torch: that of the least −log probability on validation tasks."""
    if not has_laplace():
        print("left out: laplace-torch is not installed")
        return None
    losses = np.zeros(len(PRECISIONS))
    for episode in chosen.validation.episodes(0, chosen.judged):
        task = chosen.adapter.fit(episode.support_x, episode.support_y)
        found, new = _laplace(task, episode.support_x, episode.support_y), _adapted(task, episode.query_x)
        losses += [_nll(_laplaced(found, it, new), episode.query_y) for it in PRECISIONS]
    return PRECISIONS[int(losses.argmin())]


# ------------------------------------------------------------------------------------------ measured


def _nll(chances: Tensor, y: Tensor) -> float:
    return float(-chances.clamp(min=1e-30)[torch.arange(len(y)), y].log().mean())


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error, %, in bins of equal width (Naeini, Cooper, Hauskrecht 2015)."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(float((sure - right)[bins == b].sum())) for b in range(BINS)]
    return 100 * sum(gaps) / len(sure)


def classes(chosen: Classes) -> Iterator[Row]:
    """All methods on the same test tasks of a domain."""
    precision = _precision(chosen)
    seen: list[Mapping[str, Tensor]] = []
    truths, metas = [], []
    for episode in chosen.test.episodes(0, chosen.tested):
        seen.append(probabilities(chosen.adapter, episode, precision))
        truths.append(episode.query_y)
        metas.append(episode.meta)
    drawn = Examples.of(metas)
    losses = {m: [_nll(it[m], y) for it, y in zip(seen, truths, strict=True)] for m in seen[0]}
    for method in seen[0]:
        case, found = f"{chosen.name}: {method}", [it[method] for it in seen]
        right = [(it.argmax(1) == y).double().numpy() for it, y in zip(found, truths, strict=True)]
        sure = np.concatenate([it.max(1).values.double().numpy() for it in found])
        yield Row.of(case, "eval/nll", mean_interval(losses[method], drawn), higher_is_better=False)
        error = calibration_error(sure, np.concatenate(right))
        yield Row.cost(case, "eval/calibration_error", error, "%", n=len(found))
        shares = mean_interval([float(it.mean()) for it in right], drawn, shares=True).times(100)
        yield Row.of(case, "eval/accuracy", shares, "%")
        for other, metric in ((PLAIN, "compare/nll_minus_head"), (FOLDED, "compare/nll_minus_folds")):
            if method not in (PLAIN, other):
                difference = paired_difference(losses[method], losses[other], drawn)
                yield Row.of(case, metric, difference, higher_is_better=False)
