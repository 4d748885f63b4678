"""What the posterior of z is worth: how sure predictions are, learning as examples come, which labels to ask
for, which are wrong, and adapting together.

``python -m bench.posterior [--quick]``. Adapters as they ship; test tasks, 300 of each kind (100 where a
rival
is slow: Gaussian processes, by scikit-learn, with hyper-parameters fitted to every task). *Constant*: one
variance, of all outputs, fitted on validation tasks of the same size. Streams are of vehicles, five moments
at a time; then the vehicle becomes another one. Errors are means over tasks, and squared.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

import adapt
from adapt import FewShotAdapter, FittedTask
from adapt.adapter.problem import features_of
from adapt.compare.statistics import mean_interval, paired_difference
from bench.lib.record import Row, options, report
from tasks import Digits, Distribution, Episode, FunctionTasks, Sinusoid, VehicleDynamics
from tasks.outside import auroc

DEPENDS = (
    "adapt/adapter",
    "adapt/inner",
    "adapt/meta/calibration.py",
    "adapt/pretrained",
    "tasks/regression",
)
SOURCES = {"mlp_sinusoid": partial(Sinusoid, noise=0.0), "mlp_vehicle_dynamics": VehicleDynamics}
SHOTS = {"mlp_sinusoid": (2, 3, 5, 10), "mlp_vehicle_dynamics": (5, 10, 25, 50)}
QUERIES, PART, STREAM, LATER = 60, 5, 100, 25
RATES = (0.03, 0.1, 0.3)
ROUNDS = 50

Moments = tuple[np.ndarray, np.ndarray]  # mean and variance [m, C]


def tasks_of(name: str, shots: int, split: str = "test") -> FunctionTasks:
    return FunctionTasks(SOURCES[name](), shots, QUERIES, split)


# ------------------------------------------------------------------------------------------ how sure


def ours(adapter: FewShotAdapter, episode: Episode) -> Moments:
    mean, std = adapter.fit(episode.support_x, episode.support_y).predict(episode.query_x, return_std=True)
    return mean, std**2


def process(episode: Episode) -> Moments:
    """A Gaussian process with a length for every input, its hyper-parameters by marginal likelihood."""
    inputs = episode.support_x.shape[1]
    kernel = ConstantKernel() * RBF(np.ones(inputs)) + WhiteKernel(1e-2)
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of two points, hyper-parameters are at bounds
        model.fit(episode.support_x.numpy(), episode.support_y.numpy())
        mean, std = model.predict(episode.query_x.numpy(), return_std=True)
    shape = episode.query_y.shape
    return mean.reshape(shape), np.maximum(std.reshape(shape) ** 2, 1e-12)


def scores(moments: Moments, episode: Episode) -> dict[str, float]:
    mean, variance = moments
    error = (mean - episode.query_y.numpy()) ** 2
    sure = np.argsort(variance.ravel())[: variance.size // 2]
    return {
        "nll": float((0.5 * (np.log(2 * np.pi * variance) + error / variance)).mean()),
        "coverage": 100 * float((error < 1.96**2 * variance).mean()),
        "mse": float(error.mean()),
        "surer half": float(error.ravel()[sure].mean()),
    }


def uncertainty(quick: bool) -> Iterator[Row]:
    """NLL, coverage and error of regression."""
    many, few = (3, 1) if quick else (300, 100)
    for name, sizes in [*SHOTS.items()][: 1 if quick else None]:
        adapter = adapt.load(name)
        for shots in sizes[:1] if quick else sizes:
            case = f"{name}, {shots} examples"
            judged = [*tasks_of(name, shots, "validation").episodes(0, few)]
            constant = np.mean([scores(ours(adapter, episode), episode)["mse"] for episode in judged])
            found: dict[str, list[dict[str, float]]] = {
                "posterior": [],
                "constant": [],
                "Gaussian process": [],
            }
            for number, episode in enumerate(tasks_of(name, shots).episodes(0, many)):
                moments = ours(adapter, episode)
                flat = moments[0], np.full_like(moments[1], constant)
                found["posterior"].append(scores(moments, episode))
                found["constant"].append(scores(flat, episode))
                if number < few:
                    found["Gaussian process"].append(scores(process(episode), episode))
            yield from _uncertainty_rows(case, found)


def _uncertainty_rows(case: str, found: dict[str, list[dict[str, float]]]) -> Iterator[Row]:
    for method, rows in found.items():
        name = f"{case}: {method}"
        for metric in ("nll", "coverage", "mse"):
            interval = mean_interval([row[metric] for row in rows])
            higher, unit = metric == "coverage", "%" if metric == "coverage" else ""
            goal = 95.0 if metric == "coverage" and method == "posterior" else None
            yield Row.of(name, f"eval/{metric}", interval, unit, higher_is_better=higher, goal=goal)
        if method == "posterior":
            share = np.mean([row["surer half"] for row in rows]) / np.mean([row["mse"] for row in rows])
            yield Row.cost(name, "eval/error_of_surer_half", float(share), "× all", n=len(rows))
        else:
            first = [row["nll"] for row in found["posterior"][: len(rows)]]
            difference = paired_difference(first, [row["nll"] for row in rows])
            yield Row.of(name, "compare/nll_of_posterior_minus", difference, higher_is_better=False)


# ------------------------------------------------------------------------------------------ streams


def error_of(task: FittedTask, episode: Episode) -> float:
    return float(((task.predict(episode.query_x) - episode.query_y.numpy()) ** 2).mean())


def onwards(task: FittedTask, episode: Episode, first: int, last: int, **how: object) -> FittedTask:
    for start in range(first, last, PART):
        part = slice(start, start + PART)
        task = task.partial_fit(episode.support_x[part], episode.support_y[part], **how)  # type: ignore[arg-type]
    return task


def descended(
    adapter: FewShotAdapter, parts: Sequence[tuple[Episode, int]], rate: float
) -> list[torch.Tensor]:
    """z by Adam, one step for every five moments, at the end of the first stream and after a part of the
    next."""
    z, seen = torch.zeros(adapter.state.k, requires_grad=True), []
    optimizer = torch.optim.Adam([z], rate, (0.9, 0.99))
    for episode, last in parts:
        for start in range(0, last, PART):
            x, y = (it[start : start + PART] for it in (episode.support_x, episode.support_y))
            loss = (
                0.5 * (features_of(adapter.backbone, adapter.space, adapter.state, x)(z) - y).square().sum()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seen.append(z.detach().clone())
    return seen


def streams(quick: bool) -> Iterator[Row]:
    """A vehicle, and then another one."""
    count, stream, later = (1, 15, 10) if quick else (100, STREAM, LATER)
    adapter, source = adapt.load("mlp_vehicle_dynamics"), tasks_of("mlp_vehicle_dynamics", stream)
    found: dict[str, list[float]] = {}
    alarms = 0

    def at(z: torch.Tensor, like: FittedTask, episode: Episode) -> float:
        return error_of(replace(like, z=z, parameters=adapter.subspace.parameters(z)), episode)

    for pair in range(count):
        one, two = source.episode(2 * pair), source.episode(2 * pair + 1)
        begun = adapter.fit(one.support_x[:PART], one.support_y[:PART])
        plain = onwards(begun, one, PART, stream)
        watching = onwards(begun, one, PART, stream, on_change="forget")
        assert watching.posterior is not None
        alarms += float(watching.posterior.examples) < stream
        row = {
            "batch fit": error_of(adapter.fit(one.support_x, one.support_y), one),
            "online": error_of(plain, one),
            "nobody notices, batch fit before": error_of(adapter.fit(one.support_x, one.support_y), two),
            "nobody notices, online": error_of(onwards(plain, two, 0, later), two),
            "forgetting, γ = 0.8": error_of(onwards(plain, two, 0, later, forget=0.8), two),
            "noticed": error_of(onwards(watching, two, 0, later, on_change="forget"), two),
            "fit on the new ones alone": error_of(
                adapter.fit(two.support_x[:later], two.support_y[:later]), two
            ),
        }
        for rate in RATES:
            before, after = descended(adapter, ((one, stream), (two, later)), rate)
            row |= {f"Adam, {rate}": at(before, plain, one), f"Adam later, {rate}": at(after, plain, two)}
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        when = "100 moments" if name.startswith(("batch", "online", "Adam,")) else "25 after the change"
        yield Row.of(f"stream, {when}: {name}", "eval/mse", mean_interval(values), higher_is_better=False)
    ratio = float(np.mean(found["noticed"]) / np.mean(found["fit on the new ones alone"]))
    yield Row.cost(
        "stream, 25 after the change: noticed", "eval/mse_ratio", ratio, "× alone", n=count, goal=2.0
    )
    yield Row.cost(
        "stream, without a change", "eval/false_alarms", 100 * alarms / count, "%", n=count, goal=1.0
    )


# ------------------------------------------------------------------------------------------ labels


def asked(
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


def digit_labels(quick: bool) -> Iterator[Row]:
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
            chosen += [rest[row] for row in task.suggest(x[rest], PART)]
        errors.append(curve)
    enough = np.mean(errors, 0) <= np.mean(order)
    needed = 10 + PART * int(np.argmax(enough)) if enough.any() else last
    case = f"digits, labels that reach the error of {last} random ones"
    yield Row.cost(case, "cost/labels", 100 * needed / last, "%", n=count, goal=60.0)
    for what, values in (("random", order), ("suggested", [curve[-1] for curve in errors])):
        interval = mean_interval([100 * value for value in values])
        yield Row.of(f"digits, {last} labels: {what}", "eval/error", interval, "%", higher_is_better=False)


def labels(quick: bool) -> Iterator[Row]:
    """How many labels reach the error of random ones, and which labels are wrong."""
    for name, first, last in (("mlp_sinusoid", 2, 10), ("mlp_vehicle_dynamics", 3, 25)):
        adapter, count = adapt.load(name), 1 if quick else 200
        last = first + 2 if quick else last
        curves = [
            asked(adapter, episode, first, last)
            for episode in tasks_of(name, 10 if quick else 60).episodes(0, count)
        ]
        order, errors = (np.mean([curve[i] for curve in curves], 0) for i in (0, 1))
        enough = first + int(np.argmax(errors <= order[-1])) if (errors <= order[-1]).any() else last
        case = f"{name}, labels that reach the error of {last} random ones"
        yield Row.cost(case, "cost/labels", 100 * enough / last, "%", n=count, goal=60.0)
        last_errors = [[curve[i][-1] for curve in curves] for i in (0, 1)]
        for what, values in zip(("random", "suggested"), last_errors, strict=True):
            yield Row.of(
                f"{name}, {last} labels: {what}", "eval/mse", mean_interval(values), higher_is_better=False
            )
    yield from digit_labels(quick)
    adapter, found = adapt.load("conv4_glyphs_film"), []
    ways = 4 if quick else 10
    digits = Distribution(Digits(), ways, 5, 1, support_split="support", query_split="query")
    for number, episode in enumerate(digits.episodes(0, 1 if quick else 60)):
        generator = torch.Generator().manual_seed(number)
        wrong = torch.randperm(5 * ways, generator=generator)[:5]
        y = episode.support_y.clone()
        y[wrong] = (y[wrong] + 1 + torch.randint(ways - 1, (5,), generator=generator)) % ways
        flipped = np.isin(np.arange(5 * ways), wrong)
        doubt = adapter.fit(episode.support_x, y, keep=True).influence()
        found.append(auroc(doubt[flipped], doubt[~flipped]))
    yield Row.of(f"digits, {ways} x 5, five labels wrong", "eval/auroc", mean_interval(found), goal=0.9)


# ------------------------------------------------------------------------------------------ together


def objective(
    adapter: FewShotAdapter, clients: Sequence[tuple[torch.Tensor, ...]], z: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """The loss of all clients at z with the prior, and its gradient, from what each of them sends."""
    parts = [adapter.statistics(x, y, at=z) for x, y in clients]
    pulled = adapter.state.learned.precision * z
    value = sum(part.value for part in parts) + 0.5 * float(pulled @ z)
    return value, torch.stack([part.gradient for part in parts]).sum(0).to(z) + pulled


def averaged(
    adapter: FewShotAdapter, clients: Sequence[tuple[torch.Tensor, ...]], target: float, quick: bool
) -> int:
    """Rounds of gradient descent that reach ``target``, at the rate that needs least; :data:`ROUNDS` at
    most."""
    fewest = 3 if quick else ROUNDS
    for rate in (0.1, 0.03, 0.01, 0.003):
        z = torch.zeros(adapter.state.k)
        for number in range(fewest):
            value, gradient = objective(adapter, clients, z)
            if value <= target:
                fewest = number
                break
            z = z - rate * gradient
    return fewest


def together(quick: bool) -> Iterator[Row]:
    """Four clients of five moments each: sums in two rounds, and as many rounds of averaged gradients as
    reach the same loss, at the best of some rates, for the rate that needs least."""
    adapter = adapt.load("mlp_vehicle_dynamics")
    k = adapter.state.k
    ratios, rounds = [], []
    for episode in tasks_of("mlp_vehicle_dynamics", 20).episodes(0, 1 if quick else 50):
        clients = [*zip(episode.support_x.split(5), episode.support_y.split(5), strict=True)]
        at, sent = None, []
        for _ in range(2):
            sent = [adapter.statistics(*client, at=at) for client in clients]
            task = adapter.fit_statistics(sent)
            at = task.z
        whole = adapter.replace(solver=adapt.inner.GaussNewton(steps=2)).fit(
            episode.support_x, episode.support_y
        )
        ratios.append(error_of(task, episode) / error_of(whole, episode))
        rounds.append(float(averaged(adapter, clients, 1.01 * objective(adapter, clients, task.z)[0], quick)))
    yield Row.of(
        "4 clients, 2 rounds: error by that of the joint fit", "eval/mse_ratio", mean_interval(ratios)
    )
    yield Row.cost("4 clients: sums, 2 rounds", "cost/bytes", 2.0 * sent[0].nbytes, "bytes a client")
    gradients = mean_interval([2 * 4 * k * number for number in rounds])
    yield Row.of(
        "4 clients: gradients until the same loss (50 rounds at most)",
        "cost/bytes",
        gradients,
        "bytes a client",
        higher_is_better=False,
    )


def measure(quick: bool) -> Iterator[Row]:
    """All of it."""
    for part in (uncertainty, streams, labels, together):
        yield from part(quick)


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    report("posterior", list(measure(arguments.quick)), arguments)


if __name__ == "__main__":
    main()
