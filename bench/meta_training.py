"""Meta-training beside learn2learn and higher: MAML on the same network, tasks, steps and rates.

``python -m bench.meta_training [--quick]``. Finn, Abbeel, Levine (2017), *Model-Agnostic Meta-Learning*,
second order: all weights move by steps of gradient descent on the support, Adam moves where they begin. Ours
computes the tasks of an outer step as one program, theirs one after the other, as their documentation has it.
The unit is the processor time of one thread, outer step by outer step in turns. Each learns from the same
tasks, and is then judged by the error on the queries of others, after its own inner steps.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from adapt.adapter import Problem, identity_state
from adapt.backbones import load_backbone, require
from adapt.baselines.learn2learn import library
from adapt.compare.statistics import mean_interval, paired_difference, ratio_interval
from adapt.forward.estimators import Reverse
from adapt.heads import Direct
from adapt.inner import Descent, SquaredError
from adapt.memory import keep_freed_memory
from adapt.meta import MetaTraining
from adapt.meta.batches import single, stacked
from adapt.meta.query import Learner
from adapt.meta.step import Training
from adapt.spaces import full
from bench.lib.record import Row, options, report
from tasks import Episode, FunctionTasks, Sinusoid, VehicleDynamics

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/forward", "adapt/inner", "adapt/meta", "adapt/spaces",
)  # fmt: skip
LR, GOAL = 1e-3, 5.0
LEARNED, VALIDATION = 5000, 200  # tasks that are learned from, and judged


@dataclass(frozen=True)
class Case:
    """A network, its tasks, steps of the inner loop with their rate, and tasks of an outer step."""

    network: str
    tasks: FunctionTasks
    steps: int
    lr: float
    each: int = 25


def cases() -> dict[str, Case]:
    sinusoids, vehicles = FunctionTasks(Sinusoid(), 10, 10), FunctionTasks(VehicleDynamics(), 10, 20)
    return {
        "sinusoids, 1 inner step": Case("mlp:1-40-40-1", sinusoids, 1, 0.01),
        "sinusoids, 5 inner steps": Case("mlp:1-40-40-1", sinusoids, 5, 0.01),
        "sinusoids, 5 inner steps, 100 tasks at once": Case("mlp:1-40-40-1", sinusoids, 5, 0.01, 100),
        "vehicles, 5 inner steps": Case("mlp:5-64-64-3:tanh", vehicles, 5, 0.01),
    }


class Ours:
    """:func:`adapt.meta_train`, an outer step at a time."""

    def __init__(self, network: nn.Module, case: Case, outer: int) -> None:
        half_of_sums = 2 / case.tasks.source.outputs  # our squared error, and the mean over outputs
        space, solver = full(network), Descent("sgd", half_of_sums * case.lr, case.steps, Reverse())
        settings = MetaTraining(
            basis="identity", learn=("origin",), steps=10**6, tasks_per_step=case.each, lr=LR, clip=1e9,
            distinct_tasks=outer * case.each,
        )  # fmt: skip
        self.learner = Learner(network, space, solver, Problem(SquaredError(), Direct(), Direct()))
        self.training = Training(self.learner, case.tasks, settings, 0)
        self.now = self.training.valued(self.training.begin(identity_state(space)), stacked(case.tasks, 0, 1))
        self.training.step(self.now)  # draws the tasks

    def step(self, batch: Episode) -> None:
        self.now, _ = self.training.step(self.now)

    def loss(self, episode: Episode) -> float:
        with torch.no_grad():
            return float(mse_loss(self.learner.adapt(self.now.state, episode)[1], episode.query_y))


class Theirs(ABC):
    """One task after the other: the gradients of the losses on their queries add up."""

    def __init__(self, network: nn.Module, case: Case, outer: int) -> None:
        self.model, self.case = deepcopy(network).requires_grad_(True), case
        self.optimizer = torch.optim.Adam(self.model.parameters(), LR)

    @abstractmethod
    def adapted(self, x: Tensor, y: Tensor) -> AbstractContextManager[nn.Module]:
        """The network after its inner steps on a support set."""

    def step(self, batch: Episode) -> None:
        self.optimizer.zero_grad()
        for index in range(self.case.each):
            episode = single(batch, index)
            with self.adapted(episode.support_x, episode.support_y) as there:
                (mse_loss(there(episode.query_x), episode.query_y) / self.case.each).backward()
        self.optimizer.step()

    def loss(self, episode: Episode) -> float:
        with self.adapted(episode.support_x, episode.support_y) as there:
            return float(mse_loss(there(episode.query_x), episode.query_y).detach())


class Learn2Learn(Theirs):
    def __init__(self, network: nn.Module, case: Case, outer: int) -> None:
        super().__init__(network, case, outer)
        self.maml = library().algorithms.MAML(self.model, case.lr)

    @contextmanager
    def adapted(self, x: Tensor, y: Tensor) -> Iterator[nn.Module]:
        learner = self.maml.clone()
        for _ in range(self.case.steps):
            learner.adapt(mse_loss(learner(x), y))
        yield learner


class Higher(Theirs):
    @contextmanager
    def adapted(self, x: Tensor, y: Tensor) -> Iterator[nn.Module]:
        inner = torch.optim.SGD(self.model.parameters(), self.case.lr)
        with require("higher").innerloop_ctx(self.model, inner, copy_initial_weights=False) as (there, steps):
            for _ in range(self.case.steps):
                steps.step(mse_loss(there(x), y))
            yield there


WAYS = {"ours": Ours, "learn2learn": Learn2Learn, "higher": Higher}


def measure(name: str, case: Case, outer: int, judged: int) -> Iterator[Row]:
    network, _ = load_backbone(case.network)
    learners = {way: make(network, case, outer) for way, make in WAYS.items()}
    tasks = stacked(case.tasks, 0, outer * case.each)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(outer):
        rows = torch.arange(turn * case.each, (turn + 1) * case.each)
        batch = Episode._make([*(column[rows] for column in tasks[:4]), tasks.meta])
        for way, learner in learners.items():
            begun = time.process_time()
            learner.step(batch)
            if turn:  # the first one warms up
                seconds[way].append((time.process_time() - begun) / case.each)
    others = [case.tasks.episode(10**6 + index) for index in range(judged)]
    losses = {way: [learner.loss(it) for it in others] for way, learner in learners.items()}
    for way, times in seconds.items():
        yield Row.cost(f"{name}: {way}", "time/task", 1e3 * float(np.median(times)), "ms", n=len(times))
        mean = mean_interval(losses[way])
        yield Row.cost(f"{name}: {way}", "eval/mse", mean.mean, "", mean.ci95, mean.n)
        if way != "ours":
            ratio = ratio_interval(times, seconds["ours"]).ratio
            yield Row(f"{name}: {way}", "compare/time_of_this", ratio, "× ours", n=len(times), goal=GOAL)
            gap = paired_difference(losses["ours"], losses[way])
            yield Row.cost(f"{name}: {way}", "compare/our_mse_minus_this", gap.mean, "", gap.ci95, gap.n)


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    quick, found = arguments.quick, list[Row]()
    for name, case in [*cases().items()][: 1 if quick else None]:
        found += measure(name, case, 2 if quick else LEARNED // case.each, 2 if quick else VALIDATION)
    report("meta_training", found, arguments)


if __name__ == "__main__":
    main()
