"""What k tangents cost: seconds and peak memory in units of one forward pass, beside one backprop gradient.

``python -m bench.pushforward [--quick] [--models conv4,vit_tiny]``. Five networks (``bench/lib/models.py``),
three choices of what adapts, k = 1 … 32 directions; 25 examples, one process, all interleaved. A finished
network is kept in a partial file, so that an interrupted run goes on where it was; the full run takes about a
quarter of an hour on two cores.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial

import torch

from adapt.compare.measure import peak_megabytes
from adapt.compare.statistics import ratio_interval
from adapt.forward import ENGINES, Engine, pushforward
from adapt.memory import keep_freed_memory
from bench.lib.models import MODELS, PLACEMENTS, Placement, network, objective, problem
from bench.lib.partial import Partial, partial_option
from bench.lib.record import Row, options, report
from bench.lib.timing import Work, interleaved, timed

DEPENDS = ("adapt/backbones", "adapt/forward", "adapt/spaces", "bench/lib/models.py", "bench/lib/timing.py")
KS = (1, 2, 4, 8, 16, 32)
COMPILED = ("conv4", "vit_tiny")  # compiling all would take longer than measuring all
CENTRAL_K = 8  # the goals are set here, and compiled code is measured here
GOALS = {("everywhere", CENTRAL_K): 9.0, ("last third", CENTRAL_K): 4.5}
CPU = torch.device("cpu")

#: Rounds for one (network, placement, k): at least so many, then until the seconds are used up.
ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS, GOAL_SECONDS = 2.0, 15.0


def works(name: str, placement: Placement, k: int) -> dict[str, Work]:
    """What is timed: one forward pass, one backprop gradient of all P parameters, k tangents by engine."""
    f, z, tangents = problem(name, placement, k)
    loss, phi = objective(name, placement)

    def forward() -> object:
        with torch.inference_mode():
            return f(z)

    def backprop() -> object:
        leaf = phi.clone().requires_grad_(True)
        return torch.autograd.grad(loss(leaf), leaf)

    def tangents_by(engine: Engine) -> object:
        with torch.no_grad():  # as in ``FewShotAdapter.fit``
            return pushforward(f, z, tangents, engine=engine)

    return {
        "forward": forward,
        "backprop": backprop,
        **{engine: partial(tangents_by, engine) for engine in ENGINES},
    }


def measure(name: str, placement: Placement, k: int, *, compiled: bool, quick: bool) -> list[Row]:
    """All rows of one (network, placement, k)."""
    case = f"{name}, {placement}, k = {k}"
    contenders = works(name, placement, k)
    forward = contenders.pop("forward")
    rows = []
    if compiled and k == CENTRAL_K and name in COMPILED:
        seconds = timed(contenders["compiled"])
        rows.append(Row.cost(case, "time/compile_seconds", seconds, "s", n=1))
    else:
        del contenders["compiled"]
    # Memory first: its passes also warm up what is timed afterwards.
    unit = max(peak_megabytes(forward, CPU), 1e-6)
    peaks = {which: peak_megabytes(work, CPU) for which, work in contenders.items()}
    budget = 0.0 if quick else GOAL_SECONDS if (placement, k) in GOALS else SECONDS
    ratios = interleaved(forward, contenders, QUICK_ROUNDS if quick else ROUNDS, budget)
    pass_seconds = statistics.median(ratios.pop("forward seconds"))
    for which, values in ratios.items():
        found = ratio_interval(values, [1.0] * len(values))
        goal = GOALS.get((placement, k)) if which == "fast" else None
        note = found.between()
        metric = f"cost/{which}"
        rows.append(Row(case, metric, found.ratio, "×", None, found.n, goal, False, note))
    for which, peak in peaks.items():
        rows.append(Row.cost(case, f"memory/{which}", peak / unit, "×"))
        rows.append(Row.cost(case, f"memory/{which}_mib", peak * 1e6 / 2**20, "MiB"))
    weights = f"weights: {network(name, torch.float32).weights}"
    rows.append(Row.cost(case, "time/forward", pass_seconds, "s", note=weights))
    rows.append(Row.cost(case, "memory/forward_mib", unit * 1e6 / 2**20, "MiB"))
    return rows


def measure_network(name: str, ks: Sequence[int], *, compiled: bool, quick: bool) -> list[Row]:
    """All rows of one network, announced as they come."""
    rows = []
    started = time.perf_counter()
    for placement in PLACEMENTS:
        for k in ks:
            found = measure(name, placement, k, compiled=compiled, quick=quick)
            rows += found
            costs = ", ".join(
                f"{row.metric.removeprefix('cost/')} {row.value:.1f}×"
                for row in found
                if row.metric.startswith("cost/")
            )
            print(
                f"{time.perf_counter() - started:6.0f} s  {name}, {placement}, k = {k}: {costs}", flush=True
            )
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--models", default=None, help=f"some of {','.join(MODELS)}, with commas")
    parser.add_argument(
        "--compiled",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="measure compiled code too (default: in the full run)",
    )
    partial_option(parser, "pushforward")
    arguments = parser.parse_args()
    keep_freed_memory()  # as ``python -m adapt`` does
    quick = arguments.quick
    wanted = ("conv4",) if quick else tuple(MODELS)
    chosen = arguments.models.split(",") if arguments.models else wanted
    if unknown := set(chosen) - set(MODELS):
        parser.error(f"--models {','.join(sorted(unknown))}: choose from {','.join(MODELS)}")
    torch.compiler.config.force_disable_caches = True  # or a second run would report no compilation
    compiled = not quick if arguments.compiled is None else arguments.compiled
    partial = Partial.of(arguments)
    rows: list[Row] = []
    for name in chosen if quick else MODELS:
        part = partial.read(name)
        if part is None and name in chosen:
            ks = (2,) if quick else KS
            part = {"rows": measure_network(name, ks, compiled=compiled, quick=quick)}
            partial.write(name, part)
        if part is None:
            print(f"{name} is still to be measured; the JSON is written when all are")
            return
        rows += part["rows"]
    report("pushforward", rows, arguments)
    partial.clear([*MODELS])


if __name__ == "__main__":
    main()
