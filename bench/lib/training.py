"""Training on real digits by every gradient estimator, and how near each is to the true gradient.

Part of ``bench/forward_vs_backprop.py``. One MLP (64-128-128-10, ReLU), given as a chain of layers so that
every estimator sees the same function; plain SGD on batches of 64 of scikit-learn's 1,797 digits, split into
disjoint training (1,197), validation (300) and test (300) images. All runs take turns, a little at a time, so
that a machine whose speed drifts is slow for all of them.

Local losses read a hidden layer through fixed random weights: Mostafa, Ramesh, Cauwenberghs (2018), *Deep
Supervised Learning Using Local Errors*, arXiv 1711.06756.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from adapt.compare.statistics import mean_interval
from adapt.forward.estimators import (
    SPSA,
    ActivityPerturbation,
    Block,
    Estimator,
    Gaussian,
    Guess,
    Layered,
    LocalGradients,
    Orthogonal,
    Rademacher,
    Reverse,
)
from bench.lib.record import Row

__all__ = ["BATCH", "Curves", "cosines", "digits", "training"]

WIDTH, BATCH, TANGENTS = 128, 64, 16
#: The same for all. Half decades, and seven of them: the best rates lie more than a factor of 100 apart.
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
#: Seconds of one training, and how often it is looked at.
FULL, QUICK = (8.0, 40), (0.03, 4)
#: Rates are compared after every sixteenth of these seconds. After an eighth the best three go on to the end:
#: some that lead early diverge later.
TURNS, FIRST_TURNS, FINALISTS = 16, 2, 3
SEEDS, SELECTION_SEED = (0, 1, 2), 100
REACHED = 0.9  # accuracy whose time is reported

Curves = dict[str, list[list[float]]]  # estimator → [seconds, steps, training loss, validation accuracy]


class Images(NamedTuple):
    """``inputs [n, 64]`` in [0, 1] and ``labels [n]``."""

    inputs: Tensor
    labels: Tensor


@cache
def digits() -> dict[str, Images]:
    """Training, validation and test images, split once and for all by a fixed permutation."""
    raw = load_digits()
    inputs, labels = torch.tensor(raw.data, dtype=torch.float32) / 16, torch.tensor(raw.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    names = ("training", "validation", "test")
    pieces = order.split([len(order) - 600, 300, 300])
    return {name: Images(inputs[piece], labels[piece]) for name, piece in zip(names, pieces, strict=True)}


def batch(generator: torch.Generator) -> Images:
    """Training images at random, with replacement."""
    inputs, labels = digits()["training"]
    chosen = torch.randint(len(labels), (BATCH,), generator=generator)
    return Images(inputs[chosen], labels[chosen])


class Contender(NamedTuple):
    """``make`` gives the estimator for the loss of one batch; ``scale(P)`` is what its estimate is multiplied
    by before the learning rate."""

    make: Callable[[Layered], Estimator]
    scale: Callable[[int], float] = lambda size: 1.0


#: A projection on k random directions is short by k/P on average: scaled back, one grid of rates fits all.
CONTENDERS = {
    "backprop": Contender(lambda f: Reverse()),
    "Gaussian, k = 1": Contender(lambda f: Gaussian()),
    f"Gaussian, k = {TANGENTS}": Contender(lambda f: Gaussian(TANGENTS)),
    "Rademacher, k = 1": Contender(lambda f: Rademacher()),
    f"orthogonal, k = {TANGENTS}": Contender(lambda f: Orthogonal(TANGENTS), lambda size: size / TANGENTS),
    "activity, local losses": Contender(lambda f: ActivityPerturbation()),
    "guess, local gradients": Contender(lambda f: Guess(LocalGradients(f))),
    "SPSA": Contender(lambda f: SPSA()),
}
#: Tangents drawn from all directions alike; of the others no such theory is known.
ISOTROPIC = {
    "Gaussian, k = 1": 1,
    f"Gaussian, k = {TANGENTS}": TANGENTS,
    "Rademacher, k = 1": 1,
    f"orthogonal, k = {TANGENTS}": TANGENTS,
    "SPSA": 1,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Network:
    """The MLP with the initial weights of a ``seed``."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):  # layers take no generator
            torch.manual_seed(seed)
            sizes = (64, WIDTH, WIDTH, 10)
            self._layers = [nn.Linear(n, m) for n, m in pairwise(sizes)]
        generator = seeded(seed)
        self._readouts = [torch.randn(WIDTH, 10, generator=generator) / WIDTH**0.5 for _ in range(2)]

    def loss(self, images: Images) -> Layered:
        """Mean cross-entropy on ``images``, with its local losses."""

        def read(readout: Tensor | None) -> Callable[[Tensor], Tensor]:
            return lambda h: cross_entropy(
                h if readout is None else h @ readout, images.labels, reduction="none"
            )

        blocks = [
            Block(layer, relu, read(readout))
            for layer, readout in zip(self._layers, self._readouts, strict=False)
        ]
        return Layered(images.inputs, [*blocks, Block(self._layers[-1], lambda a: a, read(None))])

    def accuracy(self, x: Tensor, images: Images) -> float:
        """Share of ``images`` that are recognised with the weights ``x [P]``."""
        f = self.loss(images)
        h = f.inputs
        for block, parameters in zip(f.blocks, f.split(x), strict=True):
            h = block(parameters, h)
        return (h.argmax(1) == images.labels).float().mean().item()


@dataclass
class Run:
    """One training; its clock stands still while others train and while it is looked at."""

    name: str
    rate: float
    seed: int
    seconds: float = 0.0
    steps: int = 0
    diverged: bool = False
    curve: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = Network(self.seed)
        self.x = self.network.loss(digits()["training"]).start
        self._scale = CONTENDERS[self.name].scale(len(self.x))
        # Batches from their own stream: every estimator gets the same ones.
        self._batches, self._draws = seeded(self.seed + 1000), seeded(self.seed + 2000)
        self.look()

    def step(self) -> None:
        """One step of SGD."""
        f = self.network.loss(batch(self._batches))
        try:
            value, gradient, _ = CONTENDERS[self.name].make(f)(f, self.x, generator=self._draws)
        except torch.linalg.LinAlgError:  # what an orthonormal basis of infinite vectors ends in
            self.diverged = True
            return
        self.diverged = not math.isfinite(value.item())
        self.x = self.x.sub(gradient, alpha=self.rate * self._scale)
        self.steps += 1

    def until(self, seconds: float) -> None:
        """Train until the clock shows ``seconds``."""
        started, before = time.perf_counter(), self.seconds
        while self.seconds < seconds and not self.diverged:
            self.step()
            self.seconds = before + time.perf_counter() - started

    def look(self) -> None:
        """Add a point to the curve."""
        with torch.inference_mode():
            loss = float(self.network.loss(digits()["training"])(self.x))
            accuracy = self.accuracy("validation")
        self.curve.append([self.seconds, self.steps, loss, accuracy])

    def accuracy(self, split: str) -> float:
        """On a split of the digits; a run that has diverged is at chance."""
        return self.network.accuracy(self.x, digits()[split])

    @property
    def merit(self) -> float:
        """What settings are compared by: the mean validation accuracy since the start, which is high if
        a run is fast, and not by the luck of one look."""
        return -1.0 if self.diverged else fmean(point[3] for point in self.curve[1:])

    def reached(self) -> float | None:
        """Seconds to the first look with enough validation accuracy."""
        return next((point[0] for point in self.curve if point[3] >= REACHED), None)


def race(runs: Sequence[Run], looks: Iterable[float]) -> None:
    """Train all, in turns, to each of the ``looks`` (seconds)."""
    with torch.no_grad():  # the estimators that differentiate in reverse turn it on themselves
        for run in {run.name: run for run in runs}.values():  # the first call of anything is slow
            for _ in range(3):
                Run(run.name, 1e-4, run.seed).step()
        for seconds in looks:
            for run in runs:
                run.until(seconds)
                run.look()


def chosen_rates(rates: Sequence[float], budget: float) -> dict[str, float]:
    """The best of the same ``rates`` for every estimator, by validation images and with a seed of its own."""
    turns = [budget * turn / TURNS for turn in range(1, TURNS + 1)]
    trials = [Run(name, rate, SELECTION_SEED) for name in CONTENDERS for rate in rates]
    race(trials, turns[:FIRST_TURNS])

    def ranked(runs: Iterable[Run], name: str) -> list[Run]:
        return sorted((run for run in runs if run.name == name), key=lambda run: -run.merit)

    finalists = [run for name in CONTENDERS for run in ranked(trials, name)[:FINALISTS]]
    race(finalists, turns[FIRST_TURNS:])
    best = {name: ranked(finalists, name)[0].rate for name in CONTENDERS}
    print(f"learning rates: {best}", flush=True)
    return best


def training(quick: bool) -> tuple[list[Row], Curves]:
    """Rows and mean curves of all estimators with their best rates."""
    budget, looks = QUICK if quick else FULL
    rates = RATES[1::2] if quick else RATES
    best = chosen_rates(rates, budget)
    runs = [Run(name, best[name], seed) for seed in SEEDS for name in CONTENDERS]
    race(runs, np.geomspace(budget / 200, budget, looks).tolist())
    rows: list[Row] = []
    curves: Curves = {}
    for name in CONTENDERS:
        own = [run for run in runs if run.name == name]
        edge = best[name] in (rates[0], rates[-1])
        rows.append(Row(name, "train/rate", best[name], note="at the edge of the grid" if edge else ""))
        rows += _ends(name, own, budget)
        points = np.mean([run.curve for run in own], axis=0)
        curves[name] = points[np.isfinite(points).all(axis=1)].tolist()
    return rows, curves


def _ends(name: str, runs: Sequence[Run], budget: float) -> list[Row]:
    """What one estimator has reached when its seconds are used up."""
    lost = sum(run.diverged for run in runs)
    note = f"diverged with {lost} of {len(runs)} seeds" if lost else ""
    losses = [loss for run in runs if math.isfinite(loss := run.curve[-1][2])]
    rows = [Row.of(name, "train/steps", mean_interval([run.steps for run in runs]), note=f"in {budget:g} s")]
    if len(losses) == len(runs):
        rows.append(Row.of(name, "train/loss", mean_interval(losses), higher_is_better=False, note=note))
    accuracy = mean_interval([100 * run.accuracy("test") for run in runs])
    rows.append(Row.of(name, "train/test_accuracy", accuracy, "%", note=note))
    times = [run.reached() for run in runs]
    never = times.count(None)
    seconds = median(budget if found is None else found for found in times)
    note = "median; by validation accuracy"
    if never:
        note += f"; not reached with {never} of {len(times)} seeds, which count as {budget:g} s"
    metric = f"train/seconds_to_{100 * REACHED:.0f}"
    return [*rows, Row(name, metric, seconds, "s", None, len(times), None, False, note)]


def cosines(quick: bool) -> list[Row]:
    """Cosine of each estimate to the gradient of the same batch, at the start and after some training."""
    draws, steps = (5, 20) if quick else (100, 300)
    run = Run("backprop", 0.1, SEEDS[0])
    points = {"untrained": run.x}
    for _ in range(steps):
        run.step()
    points[f"after {steps} steps of backprop"] = run.x
    rows = []
    for where, x in points.items():
        for name, contender in CONTENDERS.items():
            if name == "backprop":
                continue
            found = []
            batches, generator = seeded(1), seeded(2)  # the same batches for all
            for _ in range(draws):
                f = run.network.loss(batch(batches))
                with torch.no_grad():
                    _, estimate, _ = contender.make(f)(f, x, generator=generator)
                    _, exact, _ = Reverse()(f, x)
                    found.append(torch.cosine_similarity(estimate, exact, dim=0).item())
            case = f"{name}, {where}"
            rows.append(Row.of(case, "cosine/mean", mean_interval(found), note=f"P = {len(x)}"))
            if name in ISOTROPIC:
                theory = expected_cosine(ISOTROPIC[name], len(x))
                rows.append(Row(case, "cosine/theory", theory, note="E χ_k / √P"))
    return rows


def expected_cosine(k: int, size: int) -> float:
    """E χ_k / √P = √2 Γ((k + 1)/2) / Γ(k/2) / √P, near √(k/P): of the average of k forward gradients, and of
    the projection on k random directions, for k much smaller than P."""
    return math.sqrt(2 / size) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))
