"""What differences are held against: evolution on the values of a graph that is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adapt.adapter import Problem, initial_state
from adapt.baselines import CmaEs
from adapt.edge import EdgeAdapter
from adapt.heads import Direct, Prototype
from adapt.inner import GaussNewton, SquaredError
from bench.lib.searched import Searched

cmaes = pytest.importorskip("cmaes")

A = np.array([[1.0, 0.5], [-0.5, 1.0]])


class Linear:
    """A session of the network f(x, z) = x + A z, which counts its inferences."""

    def __init__(self) -> None:
        self.inferences = 0

    def run(self, _: Any, fed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.inferences += 1
        return [(fed["x"] + fed["x1"] @ A.T).astype(np.float32)]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(shape=["n", 2], type="tensor(float)")]

    def get_modelmeta(self) -> Any:
        return SimpleNamespace(custom_metadata_map={})


def edge(log_precision: tuple[float, float] = (0.0, 0.0)) -> EdgeAdapter:
    state = initial_state(torch.zeros(2), torch.eye(2))
    state = state._replace(log_precision=torch.tensor(log_precision))
    return EdgeAdapter(Linear(), state, GaussNewton(), Problem(SquaredError(), Direct(), Direct()), 0.1)


def values() -> tuple[Tensor, Tensor]:
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    return x, x + torch.tensor([0.4, -0.3])


def objective(z: np.ndarray, precision: np.ndarray) -> float:
    """½ Σ ‖x + A z − y‖² + ½ zᵀ Λ⁻¹ z, of six examples that all lack the same."""
    return float(3 * np.square(A @ z - [0.4, -0.3]).sum() + 0.5 * (precision * z**2).sum())


def test_one_generation_keeps_the_best_of_what_was_drawn() -> None:
    """The same draws by the package alone, in units of the prior's deviations."""
    there, precision = edge((1.0, -1.0)), np.exp([1.0, -1.0])
    task = Searched(there, CmaEs(sigma=0.3)).fit(*values())
    search = cmaes.CMA(mean=np.zeros(2), sigma=0.3, population_size=28, seed=0)
    drawn = [search.ask() / np.sqrt(precision) for _ in range(28)]
    wanted = min(drawn, key=lambda z: objective(z, precision))
    assert task.z.numpy() == pytest.approx(wanted, abs=1e-5) and task.z.any()


def test_many_generations_find_the_minimum() -> None:
    x, y = values()
    task = Searched(edge(), CmaEs(generations=40, sigma=0.3)).fit(x, y)
    wanted = np.linalg.solve(6 * A.T @ A + np.eye(2), 6 * A.T @ [0.4, -0.3])
    assert task.z.numpy() == pytest.approx(wanted, abs=1e-3)
    assert task.logits(x).numpy() == pytest.approx(x.numpy() + A @ wanted, abs=1e-3)


@pytest.mark.parametrize("generations", [1, 3])
def test_inferences_are_as_many_as_is_said(generations: int) -> None:
    search = Searched(edge(), CmaEs(generations=generations, sigma=0.3))
    task = search.fit(*values())
    assert search.edge.session.inferences == search.inferences == task.passes == 28 * generations + 2


def test_what_is_worse_than_the_start_is_not_kept() -> None:
    x, _ = values()
    assert not Searched(edge(), CmaEs(sigma=0.3)).fit(x, x).z.any()


def test_makes_have_the_width_and_the_classifier_that_they_are_given() -> None:
    bench = pytest.importorskip("bench.edge")  # needs ONNX Runtime
    problem = Problem(head=Prototype())
    make = bench.staying(lambda step=0.5: replace(edge(), step=step), problem)
    assert make(step=0.3).step == 0.3 and make().problem is problem
    search = bench.searching(make)(step=0.3)
    assert search.cma == CmaEs(population=28, generations=1, sigma=0.3) and search.edge.problem is problem
