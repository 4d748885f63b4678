"""The auto-decoder: a family of functions that is linear in what differs is found exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from adapt.adapter.problem import Problem
from adapt.errors import AdaptError
from adapt.heads import Direct
from adapt.inner import SquaredError
from adapt.meta import MetaTraining, initial_basis
from adapt.meta.auto_decoder import auto_decoder_basis
from adapt.spaces import full
from tasks import Episode, EpisodeMeta

NOWHERE = np.empty(0, np.int64)
AMOUNTS = (-1.0, -0.4, 0.1, 0.5, 0.8)
FIRST, SECOND = torch.tensor([[1.0, 2.0, -1.0]]), torch.tensor([[0.5, -1.0, 2.0]])


def task(amount: float, number: int, group: str = "") -> Episode:
    """y = (W₀ + a W₁) x."""
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(number))
    y = x @ (FIRST + amount * SECOND).T
    meta = EpisodeMeta(number, 0, (), NOWHERE, NOWHERE, {}, group=group)
    return Episode(x[:2], y[:2], x[2:], y[2:], meta)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1).eval().requires_grad_(False)


TASKS = [task(amount, number) for number, amount in enumerate(AMOUNTS)]
SETTINGS = MetaTraining(k=1, basis="auto_decoder", basis_steps=40)
PROBLEM = Problem(SquaredError(), Direct(), Direct())


def test_start_and_direction_are_those_of_the_family() -> None:
    backbone = network()
    state = auto_decoder_basis(backbone, full(backbone), TASKS, 1, 40)
    mean, spread = float(np.mean(AMOUNTS)), float(np.std(AMOUNTS, ddof=1))
    truth = torch.cat([FIRST[0], torch.zeros(1)]), torch.cat([SECOND[0], torch.zeros(1)])
    assert torch.allclose(state.origin, truth[0] + mean * truth[1], atol=1e-3)
    # In units in which the tasks have variance 1; the sign is nobody's business.
    along = state.basis[:, 0] * torch.sign(state.basis[0, 0])
    assert torch.allclose(along, spread * truth[1], atol=1e-3)
    assert float(state.log_precision.exp()) < 1e-5  # what is left is next to nothing: a weak prior


def test_only_what_may_move_moves() -> None:
    backbone = network()
    still = initial_basis(backbone, full(backbone), PROBLEM, TASKS, replace(SETTINGS, moves="bias"))
    assert not still.basis[:3].any() and still.basis[3:].any()
    assert not torch.equal(still.origin, full(backbone).initial)  # but the start is learned everywhere


def test_tasks_of_one_group_share_their_place() -> None:
    backbone = network()
    twice = [task(amount, number, f"group {number % 2}") for number, amount in enumerate((0.3, -0.3) * 3)]
    state = auto_decoder_basis(backbone, full(backbone), twice, 2, 30)
    # Two groups differ along one direction; the other has nothing to say.
    lengths = state.basis.norm(dim=0)
    assert lengths[1] < 1e-3 * lengths[0]


def test_a_horizon_that_grows_ends_at_the_whole() -> None:
    backbone = nn.Linear(2, 4, bias=False).eval().requires_grad_(False)
    weight = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(1))
    episodes = []
    for number, amount in enumerate((-1.0, 0.2, 1.0)):
        x = torch.randn(5, 2, generator=torch.Generator().manual_seed(number))
        y = x @ (weight[0] + amount * weight[1]).T
        episodes.append(Episode(x[:1], y[:1], x[1:], y[1:], EpisodeMeta(number, 0, (), NOWHERE, NOWHERE, {})))
    state = auto_decoder_basis(backbone, full(backbone), episodes, 1, 40, horizon=0.25)
    assert torch.allclose(state.origin.view(4, 2), weight[0] + 0.2 / 3 * weight[1], atol=1e-3)


def test_what_it_cannot_explain_is_refused() -> None:
    backbone = network()
    with pytest.raises(AdaptError, match="1 tasks of 6 values"):
        auto_decoder_basis(backbone, full(backbone), TASKS[:1], 1, 1)
    labels = TASKS[0]._replace(support_y=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(AdaptError, match="these tasks have classes"):
        auto_decoder_basis(backbone, full(backbone), [labels, labels], 1, 1)
    with pytest.raises(AdaptError, match="differ along 2 directions at most"):
        auto_decoder_basis(backbone, full(backbone), TASKS[:2], 3, 1)
    lost = TASKS[0]._replace(support_y=torch.full_like(TASKS[0].support_y, float("nan")))
    with pytest.raises(AdaptError, match="not finite: look for NaN"):
        auto_decoder_basis(backbone, full(backbone), [lost, TASKS[1]], 1, 1)
    with pytest.raises(AdaptError, match="horizon"):
        MetaTraining(horizon=0.0)
