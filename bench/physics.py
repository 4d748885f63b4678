"""Unknown physics: the rest of a trajectory, and others, from one trajectory of an environment that is new.

``python -m bench.physics [names] [--quick] [--train]``. Vector fields and directions are learned from the
environments of split ``train`` by the commands of the experiments, and stay in ``outputs/bench/physics``.
Settings of every method are chosen on validation environments; those of test, and new trajectories of those
that were learned from (*seen*), are looked at once. The oracle knows the equations and fits their constants.
Memory is that of one adaptation, for trajectories of growing length. ``names``: of the systems.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import adapt
from adapt.adapter import Context, FewShotAdapter, Forward, Method, Saved
from adapt.adapter.method import Adapt, Predictor, Role, Support, Watch
from adapt.adapter.problem import features_of
from adapt.app.environment import environment
from adapt.app.progress import progress
from adapt.backbones import load_backbone
from adapt.baselines import Backprop, Finetune
from adapt.compare import Comparison, compare
from adapt.compare.measure import peak_megabytes
from adapt.compare.statistics import ratio_interval
from adapt.files import read_json, write_json
from adapt.heads import Direct
from adapt.inner import Continuation, Descent, GaussNewton
from adapt.memory import keep_freed_memory
from bench.lib.record import Row, folder_of, options, report
from bench.lib.runs import command_line
from tasks import CartPole, GroupedTasks, LotkaVolterra, Pendulum, Selkov
from tasks.physics import Environments

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/compare", "adapt/forward", "adapt/inner",
    "adapt/meta", "adapt/spaces", "tasks/grouped.py", "tasks/physics",
)  # fmt: skip
CPU, HEAD = torch.device("cpu"), Direct()
QUERIES, CHOOSING, COSTLY = 32, 8, 10
HORIZONS = (10, 30, 100, 300, 1000)
CLOSER = 1.1  # to the least error
CLOSE = 1.05  # of the error on the context: got there
CEILING = 2_000  # steps of descent after which it did not
PUBLISHED = 3  # tasks on which the published rate, a slow one, is waited for


@dataclass(frozen=True)
class System:
    """Where trajectories come from, how many of a new environment are given, tasks of a case, whether MAML
    and CAVIA are trained for it, and goals for the error, by case."""

    source: Environments
    shots: int
    tasks: int = 40
    others: bool = False
    goals: Mapping[str, float] | None = None


#: Goals: Kirchmeyer et al. (2022), CoDA, table 1, mean squared error of Lotka–Volterra: 1.35e-5 in domain,
#: 1.24e-5 in new environments. Theirs counts the given beginning as a point without error, ours does not.
SYSTEMS = {
    "lotka_volterra": System(LotkaVolterra(), 1, others=True, goals={"test": 1.24e-5, "seen": 1.35e-5}),
    "selkov": System(Selkov(), 1, tasks=24),
    "pendulum": System(Pendulum(), 5, tasks=24),
    "cart_pole": System(CartPole(), 5, tasks=16),
}
CASES = {"new environments": "test", "environments learned from": "seen", "more new environments": "wide"}
RATES = (0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Unseen:
    """A method that is not looked at on its way: predicting after each of hundreds of steps, which no clock
    counts, would take as long as the steps."""

    method: Method
    max_tasks: int | None = COSTLY

    @property
    def role(self) -> Role:
        return self.method.role

    @property
    def keeps_backbone(self) -> bool:
        return self.method.keeps_backbone

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        adapt = self.method.prepare(context)
        return lambda support, watch: adapt(support, lambda predictor: None)


GRIDS: dict[str, dict[str, Method]] = {
    "start, not moved": {"": Forward(GaussNewton(steps=0), HEAD)},
    **{f"forward, {n} steps": {"": Forward(GaussNewton(steps=n), HEAD)} for n in (2, 4, 10)},
    "forward, continuation": {"": Forward(Continuation(), HEAD)},
    "descent on z": {
        f"adam lr={lr} steps=200": Unseen(Backprop(Descent(lr=lr, steps=200), HEAD, subspace=True))
        for lr in RATES
    },
    "all weights": {f"adam lr={lr} steps=200": Unseen(Finetune(lr, 200)) for lr in (1e-3, 3e-3, 1e-2)},
}
#: Trained through their own inner loops, for about as long as ours.
OUTER = ("meta.steps=200", "meta.tasks_per_step=9")
OTHERS = {
    "maml": ("meta=maml", "inner=backprop", *OUTER),
    "cavia": ("meta=cavia", "inner=cavia", "meta.moves=field.layers.0.bias", *OUTER),
}


@dataclass(frozen=True)
class Oracle:
    """Knows the equations: fits their constants to the given trajectories, by least squares (scipy)."""

    source: Environments
    max_tasks: int | None = COSTLY
    role: Role = "rival"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        from scipy.optimize import least_squares

        middle = [float(np.mean(values)) for values in self.source.grid["train"].values()]

        def trajectories(x: Tensor, constants: np.ndarray) -> np.ndarray:
            given, d = x.double().numpy(), self.source.states
            drive = given[:, d:].reshape(len(given), self.source.points, -1).transpose(1, 2, 0)
            found = self.source.trajectories(given[:, :d].T, drive, tuple(constants))
            return found.transpose(2, 0, 1).reshape(len(given), -1)

        def adapt(support: Support, watch: Watch) -> Predictor:
            targets = support.y.double().numpy()
            left = lambda constants: (trajectories(support.x, constants) - targets).ravel()  # noqa: E731
            found = least_squares(left, middle, x_scale=np.abs(middle) + 0.1).x
            return lambda x: torch.from_numpy(trajectories(x, found)).float()

        return adapt


def adapter_for(name: str, folder: Path, more: tuple[str, ...] = (), suffix: str = "") -> Path:
    """The folder of what the experiment learns, unless it has."""
    output = folder / f"{name}{suffix}"
    if not (output / "adapter_config.json").exists():
        made = ["tracking=none", f"hydra.run.dir={output}.run", f"output={output}"]
        command_line([f"experiment=meta_{name}", *more, *made], quick=False)
    return output


def measured(
    path: Path, methods: Mapping[str, Method], tasks: GroupedTasks, adapter: FewShotAdapter, number: int
) -> Comparison:
    """On the first ``number`` of ``tasks``, kept in ``path``."""
    if not path.exists():
        result = compare(
            methods,
            tasks,
            Context(adapter.backbone, adapter),
            experiment="physics",
            task={"source": tasks.source.name, "shots": tasks.shots},
            tasks=number,
            device=CPU,
            environment=environment(CPU),
            checkpoint=path.with_suffix(".jsonl"),
            memory=number > CHOOSING,
            progress=progress(path.stem),
        )
        write_json(path, result.to_dict())
    return Comparison.from_dict(read_json(path))


def chosen(folder: Path, tasks: GroupedTasks, adapter: FewShotAdapter) -> dict[str, tuple[str, Method]]:
    """Of every method the setting with the least error on validation environments."""
    found = {}
    for name, grid in GRIDS.items():
        said, method = next(iter(grid.items()))
        if len(grid) > 1:
            cheap = {key: replace(one, max_tasks=None) for key, one in grid.items()}
            result = measured(folder / f"validation, {name}.json", cheap, tasks, adapter, CHOOSING)
            said = min(grid, key=lambda key: result.methods[key].mean_score.mean)
            method = grid[said]
        found[name] = said, method
    return found


def cheapest(folder: Path, tasks: GroupedTasks, adapter: FewShotAdapter) -> str:
    """Of the forward methods the cheapest whose error on validation environments is within a tenth of the
    least."""
    ways = {name: next(iter(grid.values())) for name, grid in GRIDS.items() if name.startswith("forward")}
    result = measured(folder / "validation, forward.json", ways, tasks, adapter, CHOOSING)
    errors = {name: method.mean_score.mean for name, method in result.methods.items()}
    return next(name for name in ways if errors[name] <= CLOSER * min(errors.values()))


def rows_of(case: str, result: Comparison, notes: Mapping[str, str], goal: float | None) -> Iterator[Row]:
    """Every method's error, the worst task's, and what it costs."""
    ours = result.methods["forward, 10 steps"]
    for name, method in result.methods.items():
        shown, score = f"{case}: {name}", method.mean_score
        forward = name.startswith("forward")
        yield Row.cost(
            shown,
            "eval/mse",
            score.mean,
            "",
            score.ci95,
            score.n,
            goal if forward else None,
            notes.get(name, ""),
        )
        yield Row.cost(shown, "eval/mse_worst", max(method.score), n=method.n)
        yield Row.cost(shown, "time/adapt_seconds", method.adapt_seconds, "s", n=method.n)
        yield Row.cost(shown, "cost/forward_equivalents", method.forward_equivalents, n=1)
        if not forward:
            gap = result.difference(method, ours)
            yield Row(shown, "compare/mse_minus_forward", gap.mean, "", gap.ci95, gap.n)
            n = min(method.n, ours.n)
            ratio = ratio_interval(method.seconds[:n], ours.seconds[:n])
            yield Row(shown, "compare/time_of_this", ratio.ratio, "× forward", n=n)


def speeds(
    case: str,
    ours: FewShotAdapter,
    tasks: GroupedTasks,
    rates: Mapping[str, tuple[float, int]],
    name: str,
) -> Iterator[Row]:
    """Seconds of descent on z until the error on the given trajectories is that of ``ours``, by those of
    ours, which is called ``name``, task by task in turn. ``rates``: rate and tasks."""
    for said, (lr, n) in rates.items():
        seconds: list[float] = []
        waits: list[float] = []
        never = 0
        for episode in tasks.episodes(0, n):
            started = time.perf_counter()
            with torch.no_grad():
                task = ours.fit(episode.support_x, episode.support_y)
                waits.append(time.perf_counter() - started)
                reached = (task.logits(episode.support_x) - episode.support_y).square().mean()
            found, got = _descent(ours, episode.support_x, episode.support_y, lr, CLOSE * float(reached))
            seconds.append(found)
            never += not got
        ratio = ratio_interval(seconds, waits)
        bound = f"; a lower bound: {never} of {n} were not there after {CEILING} steps" if never else ""
        metric = "compare/time_to_the_same_error"
        shown = f"{case}: descent on z, {said}"
        yield Row(shown, metric, ratio.ratio, "×", n=n, goal=100, note=f"{name}{bound}")


def _descent(adapter: FewShotAdapter, x: Tensor, y: Tensor, lr: float, wanted: float) -> tuple[float, bool]:
    features = features_of(adapter.backbone, adapter.space, adapter.state, x)
    z = torch.zeros(adapter.state.k, requires_grad=True)
    optimizer, started = torch.optim.Adam([z], lr), time.perf_counter()
    for _ in range(CEILING):
        loss = (features(z) - y).square().mean()
        if loss.item() <= wanted:
            return time.perf_counter() - started, True
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started, False


def horizons(adapter: FewShotAdapter, quick: bool) -> Iterator[Row]:
    """Megabytes of one adaptation, beside plain simulation, for trajectories of growing length."""
    for points in HORIZONS[:2] if quick else HORIZONS:
        longer = load_backbone("rollout:2-64-64-2:tanh", points=points, interval=0.5)[0]
        x, y = torch.ones(1, 2), torch.ones(1, 2 * points)
        context, support = Context(longer, adapter.replace(backbone=longer)), Support(x, y, ())
        ways: dict[str, Callable[[], object]] = {"simulation": lambda net=longer, x=x: net(x)}
        for name, method in (
            ("forward", Forward(GaussNewton(), HEAD)),
            ("backprop", Backprop(Descent(steps=1), HEAD, subspace=True)),
        ):
            fit = method.prepare(context)
            ways[name] = lambda fit=fit, support=support: fit(support, lambda predictor: None)
        with torch.no_grad():
            for name, work in ways.items():
                yield Row.cost(f"{points} points: {name}", "memory/peak_mb", peak_megabytes(work, CPU), "MB")


def of_system(name: str, system: System, folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of one system."""
    adapter = adapt.load("rollout_lotka_volterra" if quick else adapter_for(name, folder))
    kept = folder / f"{name}_tasks"
    tasks = GroupedTasks(system.source, system.shots, QUERIES, support_split="validation")
    found = (
        {n: next(iter(grid.items())) for n, grid in GRIDS.items()} if quick else chosen(kept, tasks, adapter)
    )
    methods = {n: method for n, (_, method) in found.items()} | {"the equations": Oracle(system.source)}
    notes = {n: said for n, (said, _) in found.items()}
    if quick:
        methods = {n: methods[n] for n in ("start, not moved", "forward, 10 steps")}
    elif system.others:
        methods |= {it: Saved(str(adapter_for(name, folder, how, f"_{it}"))) for it, how in OTHERS.items()}
    for case, split in [*CASES.items()][: 1 if quick else None]:
        shots = system.source.kept if split == "seen" else system.shots
        there = replace(tasks, support_split=split, shots=shots)
        result = measured(kept / f"{split}.json", methods, there, adapter, 1 if quick else system.tasks)
        yield from rows_of(f"{name}, {case}", result, notes, (system.goals or {}).get(split))
    if not quick:
        best = float(notes["descent on z"].split("lr=")[1].split()[0])
        rates = {f"lr={best:g}": (best, COSTLY), "lr=0.001, as published": (1e-3, PUBLISHED)}
        new, ours = replace(tasks, support_split="test"), cheapest(kept, tasks, adapter)
        method = found[ours][1]
        assert isinstance(method, Forward)
        solved = adapter.replace(solver=method.solver)
        yield from speeds(f"{name}, new environments", solved, new, rates, ours)


def main() -> None:
    parser = options(__doc__, names=f"systems, of {', '.join(SYSTEMS)}", train="learn vector fields only")
    arguments = parser.parse_args()
    keep_freed_memory()
    folder, quick = folder_of("physics", arguments), arguments.quick
    names = ["lotka_volterra"] if quick else arguments.names or [*SYSTEMS]
    if arguments.train:
        for name in names:
            adapter_for(name, folder)
        return
    found = [row for name in names for row in of_system(name, SYSTEMS[name], folder, quick=quick)]
    found += horizons(adapt.load("rollout_lotka_volterra"), quick)
    report("physics", found, arguments)


if __name__ == "__main__":
    main()
