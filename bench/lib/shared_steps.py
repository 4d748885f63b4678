"""Seconds of an outer step, of its all-reduce and of a checkpoint, by processes that share it, as JSON.

``torchrun --nproc-per-node=N -m bench.lib.shared_steps ADAPTER TASKS STEPS``, which ``bench.scaling`` starts.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import distributed

import adapt
from adapt.inner import GaussNewton
from adapt.meta import MetaTraining
from adapt.meta.query import Learner
from adapt.meta.snapshot import Snapshot, write_snapshot
from adapt.meta.step import Training
from adapt.ranks import ALONE, Ranks, ranks
from bench.lib.timing import timed
from tasks import Digits, Distribution, FunctionTasks, VehicleDynamics

__all__ = ["CASES", "training_of"]

#: Adapters and what they learn on.
CASES: dict[str, Callable[[], Distribution | FunctionTasks]] = {
    "mlp_vehicle_dynamics": lambda: FunctionTasks(VehicleDynamics(), 10, 10),
    "conv4_glyphs_film": lambda: Distribution(Digits(), 5, 5, 5, "support", "query"),
}


def training_of(name: str, tasks: int, ranks: Ranks = ALONE) -> tuple[Training, Snapshot]:
    """The training of a shipped adapter on so many tasks, which are drawn, after a step."""
    adapter = adapt.load(name)
    settings = MetaTraining(k=adapter.state.k, steps=10**6, tasks_per_step=tasks, distinct_tasks=tasks)
    learner = Learner(adapter.backbone, adapter.space, GaussNewton(), adapter.problem)
    training = Training(learner, CASES[name](), settings, 0, ranks)
    return training, training.step(training.begin(adapter.state))[0]


def main() -> None:
    name, tasks, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    training, now = training_of(name, tasks, ranks())
    settings = training.settings
    numbers = [torch.zeros_like(getattr(now.state, field)) for field in settings.learn]
    found = {
        "step": median(timed(lambda: training.step(now)) for _ in range(steps)),
        "all-reduce": median(timed(lambda: ranks().total(numbers)) for _ in range(10 * steps)),
        "numbers": sum(map(torch.numel, numbers)),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        found["checkpoint"] = median(timed(lambda: write_snapshot(path, now, {})) for _ in range(steps))
    if ranks().first:
        print(json.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
