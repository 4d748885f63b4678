"""What the posterior of z is worth: how sure predictions are, beside rivals, learning as examples come, which
labels to ask for, which are wrong, adapting together, and what it costs.

``python -m bench.posterior [names] [--quick] [--train]``. Test tasks are looked at once: 200 of each kind of
regression, of which rivals other than *one variance* get the first 60, 30 of digits, 80 of gridworlds, 20 of
intents (of wrong labels 60 and 40). Adapters are those that ship; where none does, and
for an ensemble, they are meta-trained (``--train`` does no more) and stay in ``outputs/bench/posterior``, as
do results of single parts, so that a broken run goes on where it stopped: what is there is not measured
again. An ensemble takes part once it has been trained. Every rival gets the same support sets, and chooses
its settings once, on 100 validation tasks of the same size (laplace-torch: 30, a shared prior: 25), or by its
own rule on the support set. Streams are of vehicles, five moments at a time; then the vehicle becomes another
one. Errors are means over tasks, and squared.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import adapt
from adapt.adapter import FewShotAdapter, FittedTask
from adapt.adapter.problem import features_of
from adapt.compare.statistics import mean_interval
from adapt.tracking.git import git_state
from bench.lib.domains import available
from bench.lib.paths import ROOT
from bench.lib.posterior_adapters import NETWORKS, ensemble, learned, loss_of
from bench.lib.posterior_classes import class_domains, classes, digits, intents
from bench.lib.posterior_cost import of_predicting, of_rivals
from bench.lib.posterior_labels import asked, wrong
from bench.lib.posterior_values import SHOTS, error_of, setting_of, tasks_of, uncertainty
from bench.lib.record import Row, folder_of, options, report
from bench.lib.text_learning import kept_json
from tasks import Episode

DEPENDS = (
    "adapt/adapter", "adapt/heads", "adapt/inner", "adapt/meta/calibration.py", "adapt/pretrained",
    "bench/lib/posterior_adapters.py", "bench/lib/posterior_classes.py", "bench/lib/posterior_cost.py",
    "bench/lib/posterior_labels.py", "bench/lib/posterior_rivals.py", "bench/lib/posterior_values.py",
    "tasks/control", "tasks/regression",
)  # fmt: skip
PART, STREAM, LATER = 5, 100, 25
RATES = (0.03, 0.1, 0.3)
ROUNDS = 50

# ------------------------------------------------------------------------------------------ streams


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


# ------------------------------------------------------------------------------------------ all of it


def members(name: str, folder: Path, *, quick: bool) -> Iterator[Row]:
    """Meta-trains an ensemble, and says how good its members are."""
    for number, it in enumerate(ensemble(name, tasks_of(name, 10), folder, quick=quick)):
        yield Row.cost(f"{name}: MAML {number}", "validation/mse", loss_of(it))


def others(folder: Path, inner_loops: Path) -> Iterator[Row]:
    """Meta-trains what does not ship otherwise."""
    for name in ("volatility", "gridworld"):
        yield Row.cost(f"{name}: adapter", "validation/loss", loss_of(learned(name, folder, quick=False)))
    if available("minilm") is None:
        intents(inner_loops, folder, quick=False)


def costs(folder: Path, inner_loops: Path, *, quick: bool) -> Iterator[Row]:
    """Of predicting, by domain, and of whole tasks, beside rivals."""
    for name in [*SHOTS][: 1 if quick else None]:
        setting = setting_of(name, 10, folder, quick=quick)
        episode = setting.tasks.episode(0)
        yield from of_predicting(name, setting.adapter, episode, quick=quick)
        yield from of_rivals(f"{name}, 10 examples", setting, episode)
    chosen = [digits(5, quick=quick)]
    if not quick and available("minilm") is None:
        chosen.append(intents(inner_loops, folder, quick=quick))
    for it in chosen:
        yield from of_predicting(it.name, it.adapter, it.test.episode(0), quick=quick)


def parts(folder: Path, inner_loops: Path, *, quick: bool) -> dict[str, Callable[[], Iterator[Row]]]:
    """By name, in the order of the pages."""
    found: dict[str, Callable[[], Iterator[Row]]] = {}
    for name in [*NETWORKS][: 1 if quick else None]:
        found[f"adapters, {name}"] = partial(members, name, folder, quick=quick)
    if not quick:
        found["adapters, others"] = partial(others, folder, inner_loops)
    for name, sizes in [*SHOTS.items()][: 1 if quick else None]:
        for shots in sizes[:1] if quick else sizes:
            case = f"{name}, {shots} examples"
            found[case] = partial(uncertainty, name, shots, folder, quick=quick)
    for name, chosen in class_domains(folder, inner_loops, quick=quick).items():
        found[name] = lambda chosen=chosen: classes(chosen())
    return found | {
        "streams": partial(streams, quick),
        "labels": partial(asked, quick),
        **_doubted(folder, inner_loops, quick=quick),
        "together": partial(together, quick),
        "costs": partial(costs, folder, inner_loops, quick=quick),
    }


def _doubted(folder: Path, inner_loops: Path, *, quick: bool) -> dict[str, Callable[[], Iterator[Row]]]:
    """Of wrong labels."""
    found: dict[str, Callable[[], Iterator[Row]]] = {
        "wrong labels, digits": lambda: wrong(digits(5, quick=quick), 1 if quick else 60)
    }
    if not quick and available("minilm") is None:
        found["wrong labels, intents"] = lambda: wrong(intents(inner_loops, folder, quick=False), 40)
    return found


def _kept(path: Path, part: Callable[[], Iterator[Row]]) -> tuple[str | None, list[Row]]:
    """The rows of a part, measured now or before, and the commit of it."""

    def measured() -> dict[str, Any]:
        rows, state = [asdict(row) for row in part()], git_state(ROOT)
        return {"commit": state and state[0], "rows": rows}

    found = kept_json(path, measured)
    return found["commit"], [Row(**row) for row in found["rows"]]


def main() -> None:
    names = "parts to do now, by how their names begin; all that are there are in the result; default: all"
    arguments = options(__doc__, names=names, train="meta-train only").parse_args()
    torch.set_num_threads(1)
    folder, inner_loops = (folder_of(name, arguments) for name in ("posterior", "inner_loops"))
    wanted = tuple(arguments.names) or (("adapters",) if arguments.train else ("",))
    rows, commits = list[Row](), dict[str, str | None]()
    for name, part in parts(folder, inner_loops, quick=arguments.quick).items():
        path = folder / "rows" / f"{name}.json"
        if name.startswith(wanted) or path.exists():
            print(name, flush=True)
            commits[name], found = _kept(path, part)
            rows += found
    if not arguments.train:
        report("posterior", rows, arguments, commits=commits)


if __name__ == "__main__":
    main()
