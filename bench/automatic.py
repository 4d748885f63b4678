"""Regression: deciding on the support set whether to adapt, against always doing so, and against never.

``python -m bench.automatic [--quick]``. The shipped adapters of sinusoids and vehicles, as they are; nothing
is trained or chosen. Test tasks are looked at once, by all methods in turn.
"""

from collections.abc import Iterator

import torch

import adapt
from adapt.adapter import Context, Forward, Method
from adapt.app.environment import environment
from adapt.compare import Comparison, compare
from adapt.compare.statistics import ratio_interval
from adapt.heads import Direct
from adapt.inner import Auto, GaussNewton
from adapt.memory import keep_freed_memory
from bench.lib.record import Row, options, report
from tasks import FunctionTasks, Sinusoid, VehicleDynamics

DEPENDS = ("adapt/adapter", "adapt/forward", "adapt/inner", "tasks/functions.py", "tasks/regression")
TASKS = 300
CASES = {
    "mlp_sinusoid": (Sinusoid(), (1, 2, 3, 5, 10)),
    "mlp_vehicle_dynamics": (VehicleDynamics(), (2, 5, 10, 25, 50)),
}
AUTO, ALWAYS, NEVER = "auto", "forward", "start, not moved"


def measured(name: str, shots: int, tasks: int) -> Comparison:
    adapter, source = adapt.load(name), CASES[name][0]
    methods: dict[str, Method] = {
        ALWAYS: Forward(GaussNewton(), Direct()),
        AUTO: Forward(Auto(), Direct()),
        NEVER: Forward(GaussNewton(steps=0), Direct()),
    }
    return compare(
        methods,
        FunctionTasks(source, shots=shots, support_split="test"),
        Context(adapter.backbone, adapter),
        experiment="automatic",
        task={"source": source.name, "shots": shots, "tasks": tasks},
        tasks=tasks,
        device=torch.device("cpu"),
        environment=environment(torch.device("cpu")),
        memory=False,
    )


def rows(case: str, result: Comparison) -> Iterator[Row]:
    """Every method's error and cost; of ``auto`` also paired with the two others."""
    methods = result.methods
    for name, method in methods.items():
        score = method.mean_score
        yield Row.cost(f"{case}: {name}", "eval/mse", score.mean, "", score.ci95, score.n)
        yield Row.cost(f"{case}: {name}", "cost/forward_equivalents", method.forward_equivalents, n=1)
    auto = methods[AUTO]
    for name, metric in ((ALWAYS, "compare/mse_minus_forward"), (NEVER, "compare/mse_minus_start")):
        gap = result.difference(auto, methods[name])
        yield Row.cost(f"{case}: {AUTO}", metric, gap.mean, "", gap.ci95, gap.n)
    ratio = ratio_interval(auto.seconds, methods[ALWAYS].seconds)
    yield Row.cost(f"{case}: {AUTO}", "time/adapt_ratio", ratio.ratio, n=auto.n)


def main() -> None:
    arguments = options(__doc__).parse_args()
    keep_freed_memory()
    found: list[Row] = []
    for name, (source, every) in CASES.items():
        for shots in every[:1] if arguments.quick else every:
            result = measured(name, shots, 2 if arguments.quick else TASKS)
            found += rows(f"{source.name}, {shots}-shot", result)
    report("automatic", found, arguments)


if __name__ == "__main__":
    main()
