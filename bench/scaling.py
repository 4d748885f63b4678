"""Several processes: what sharing meta-training gains here, what travels, and what that says of many GPUs.

``python -m bench.scaling [--quick]``. Steps of meta-training by one process and by two under torchrun, in
turns. The time of N processes is simulated from the cost of a task, of this machine, and the ring all-reduce
of Patarasu and Yuan (2009), *Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations*:

    t(N) = ⌈T/N⌉ · task + 2 (N − 1) (α + bytes / (N β))

with latency α and bandwidth β of ``LINK``. A hundred clients, each with moments of a vehicle of its own that
nobody else sees, then agree on a start in two rounds.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from math import ceil

import numpy as np
import psutil
import torch

import adapt
from adapt.adapter import FewShotAdapter
from adapt.compare.statistics import mean_interval, ratio_interval
from adapt.inner import GaussNewton
from bench.lib.paths import ROOT
from bench.lib.record import Row, options, report
from bench.lib.shared_steps import CASES, training_of
from tasks import Episode, FunctionTasks, VehicleDynamics

DEPENDS = (
    "adapt/adapter/together.py",
    "adapt/forward/shared.py",
    "adapt/meta",
    "adapt/ranks.py",
    "bench/lib/shared_steps.py",
)
TASKS, STEPS, TURNS = 32, 10, 5
BETWEEN = 25  # steps, of one checkpoint and the next, by default
PROCESSES = (1, 2, 8, 64, 256, 1024)
#: Tasks of a step in the simulation: many, and as many as papers take.
PER_STEP = (1024, 64)
#: Assumed, of a cluster's network: seconds for a message, and bytes a second.
LINK = (20e-6, 10e9)
EXAMPLES = 25
#: Adapters and the numbers that they predict of an example.
OUTPUTS = {"mlp_vehicle_dynamics": 3, "conv4_glyphs_film": 5}
CLIENTS, MOMENTS, HELD_OUT = 100, 10, 40


def measured(name: str, tasks: int, steps: int, turns: int) -> Iterator[Row]:
    """Of one process and of two, and from these of many."""
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(turns):
        for count in found:
            found[count].append(torchrun(count, name, tasks, steps))
    steps_of = {count: [it["step"] for it in runs] for count, runs in found.items()}
    for count, seconds in steps_of.items():
        yield Row.cost(f"{name}, {count} processes", "time/step", float(np.median(seconds)), "s", n=turns)
    gain = ratio_interval(steps_of[1], steps_of[2]).ratio
    yield Row(f"{name}, 2 processes", "compare/steps against one process", gain, "×", n=turns)
    reduced = float(np.median([it["all-reduce"] for it in found[2]]))
    yield Row.cost(f"{name}, 2 processes", "time/all-reduce", 1e3 * reduced, "ms", n=turns)
    written = float(np.median([it["checkpoint"] for it in found[1]]))
    share = 100 * written / (BETWEEN * float(np.median(steps_of[1])))
    yield Row.cost(f"{name}, a checkpoint", "cost/share of the time", share, "%", n=turns, goal=1.0)
    size = 4 * found[1][0]["numbers"]
    yield Row.cost(name, "cost/bytes of the meta-gradient", size, "bytes")
    task = float(np.median(steps_of[1])) / tasks
    for count in PROCESSES:
        for each in PER_STEP:
            if count <= each:
                gain = simulated(each, 1, task, size) / simulated(each, count, task, size)
                yield Row(f"{name}, {count} processes, simulated", f"compare/{each} tasks a step", gain, "×")


def flat(steps: int) -> Iterator[Row]:
    """Memory of this process after a tenth of the steps of a training, and after all."""
    name = next(iter(CASES))
    training, now = training_of(name, 4)
    for index in range(steps):
        if index == steps // 10:
            before = resident()
        now, _ = training.step(now)
    for done, megabytes in ((steps // 10, before), (steps, resident())):
        yield Row.cost(f"{name}, after {done} outer steps", "memory/process", megabytes, "MB")


def resident() -> float:
    """Megabytes that this process holds."""
    return float(psutil.Process().memory_info().rss) / 1e6


def torchrun(count: int, *arguments: object) -> dict[str, float]:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
    command += ["-m", "bench.lib.shared_steps", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def simulated(tasks: int, count: int, task: float, size: float) -> float:
    """Seconds of a step."""
    latency, bandwidth = LINK
    return ceil(tasks / count) * task + 2 * (count - 1) * (latency + size / (count * bandwidth))


def travelling(name: str, outputs: int) -> Iterator[Row]:
    """Bytes that a process sends for one adaptation step of one task of ``EXAMPLES``."""
    adapter: FewShotAdapter = adapt.load(name)
    k = adapter.state.k
    sizes = {
        "gradient of all that moves": adapter.space.size,
        "columns of the Jacobian": k * EXAMPLES * outputs,
        "slopes along random directions from one seed": k,
        "sums of the posterior": k * (k + 1) // 2 + 2 * k,
    }
    for what, numbers in sizes.items():
        yield Row.cost(f"{name}: {what}", "cost/bytes", 4.0 * numbers, "bytes")


def federated(clients: int) -> Iterator[Row]:
    """Vehicles on slippery roads: the error of a client on moments held out, from the shipped start, from the
    one that all agree on, and where each begins from it with its own moments."""
    adapter = adapt.load("mlp_vehicle_dynamics")
    tasks = FunctionTasks(VehicleDynamics(), MOMENTS, HELD_OUT)
    drawn = sorted(tasks.episodes(0, 10 * clients), key=lambda it: it.meta.parameters["friction"])
    fleet, others = drawn[: 2 * clients : 2], drawn[1 : 2 * clients : 2]  # the others are no clients
    common, nbytes = torch.zeros(adapter.state.k), 0
    ends = {"shipped start": common}
    for turn in (1, 2):
        sent = [adapter.statistics(it.support_x, it.support_y, at=common) for it in fleet]
        nbytes += sent[0].nbytes
        common = adapter.fit_statistics(sent).z
        ends[f"common start after {turn} rounds"] = common
    before = np.empty(0)
    for name, z in ends.items():
        state = adapter.state._replace(origin=adapter.state.origin + adapter.state.basis @ z)
        there = adapter.replace(state=state)
        alone = there.replace(solver=GaussNewton(steps=0))
        for said, one in ((name, alone), (f"{name}, and {MOMENTS} own moments", there)):
            errors = np.array([mse(one, it) for it in others])
            case = f"{clients} clients: {said}"
            yield Row.of(case, "eval/mse", mean_interval(errors), "")
            before = before if len(before) else errors
            yield Row(case, "compare/mse of the shipped start", ratio_interval(errors, before).ratio, "×")
    yield Row.cost(f"{clients} clients: 2 rounds", "cost/bytes", float(nbytes), "bytes a client")


def mse(adapter: FewShotAdapter, episode: Episode) -> float:
    task = adapter.fit(episode.support_x, episode.support_y)
    return float((task.logits(episode.query_x) - episode.query_y).square().mean())


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    quick = arguments.quick
    found: list[Row] = []
    for name in [*CASES][: 1 if quick else None]:
        found += measured(name, *((4, 2, 1) if quick else (TASKS, STEPS, TURNS)))
    for name, outputs in OUTPUTS.items():
        found += travelling(name, outputs)
    found += flat(50 if quick else 10_000)
    found += federated(4 if quick else CLIENTS)
    report("scaling", found, arguments)


if __name__ == "__main__":
    main()
