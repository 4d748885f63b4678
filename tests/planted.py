"""Tasks of which the answer is known: linear functions whose weights differ along planted directions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter import Problem
from adapt.heads import Direct
from adapt.inner import SquaredError
from adapt.spaces import Space, full
from tasks import Episode
from tasks.distribution import EpisodeMeta

__all__ = ["REGRESSION", "LinearTasks", "linear_network", "tiny_mlp"]

#: How regression tasks are judged: by the network's own outputs.
REGRESSION = Problem(SquaredError(), Direct(), Direct())
SIZE = 6


@dataclass(frozen=True)
class _Source:
    name: str = "linear"

    def digest(self) -> str:
        return "planted"


LINEAR = _Source()


@dataclass(frozen=True)
class LinearTasks:
    """Task i is y = (mean + U z_i)·x with z_i ~ N(0, I), exactly."""

    directions: tuple[tuple[float, ...], ...]  # rows: columns of U
    mean: tuple[float, ...] = (0.0,) * SIZE
    shots: int = 12
    seed: int = 0
    regression: bool = True
    source: Any = LINEAR

    def weights(self, index: int) -> np.ndarray:
        z = np.random.default_rng([self.seed, index, 1]).standard_normal(len(self.directions))
        return np.asarray(self.mean) + z @ np.asarray(self.directions)

    def episode(self, index: int) -> Episode:
        x = np.random.default_rng([self.seed, index]).standard_normal((2 * self.shots, SIZE))
        y = x @ self.weights(index)[:, None]
        tensors = (x[: self.shots], y[: self.shots], x[self.shots :], y[self.shots :])
        none = np.empty(0, np.int64)
        floats = (torch.from_numpy(tensor.astype(np.float32)) for tensor in tensors)
        return Episode._make([*floats, EpisodeMeta(index, self.seed, (), none, none)])

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        return map(self.episode, range(start, stop))


def linear_network() -> tuple[nn.Module, Space]:
    """y = w·x with w = 0."""
    network = nn.Linear(SIZE, 1, bias=False).requires_grad_(False)
    network.weight.zero_()
    return network, full(network)


def tiny_mlp(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Space]:
    """Numbers to numbers, 22 parameters, smooth."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 7), nn.Tanh(), nn.Linear(7, 1)).to(dtype).requires_grad_(False)
    for parameter in network.parameters():
        drawn: Tensor = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(0.7 * drawn)
    return network, full(network)
