"""The directions of one task, divided among processes: the same task in each of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import adapt
from adapt.forward.estimators import Exact, Gaussian
from adapt.inner import Descent
from tests.distributed.together import finished

COMMAND = """
import json
from torch import distributed
from adapt.forward import shared
from adapt.ranks import ranks
from tests.distributed.test_tangents import found
distributed.init_process_group("gloo")
with shared(ranks()):
    print(json.dumps(found()))
"""


def found() -> dict[str, list[float]]:
    """Where z ends by the whole Jacobian, by gradients of all directions, and of random ones."""
    adapter, x = adapt.load("mlp_sinusoid").to("cpu", dtype=torch.float64), torch.linspace(-3, 3, 10)[:, None]
    solvers = {
        "jacobian": adapter.solver,
        "exact": Descent("sgd", 0.01, 3, Exact()),
        "random": Descent("sgd", 0.01, 3, Gaussian(5), seed=3),
    }
    return {
        name: adapter.replace(solver=solver).fit(x, x.sin()).z.tolist() for name, solver in solvers.items()
    }


@pytest.mark.parametrize("count", [2, 3, 6])  # of four directions: two of six processes have none
def test_all_come_to_the_same_as_one(count: int, tmp_path: Path) -> None:
    alone = found()
    assert all(any(z) for z in alone.values())
    for done in finished(["-W", "error", "-c", COMMAND], Path.cwd(), count):
        assert done.returncode == 0, done.stderr
        for name, z in json.loads(done.stdout).items():
            assert z == pytest.approx(alone[name], rel=1e-12, abs=1e-12), name
