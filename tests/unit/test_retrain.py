"""Retraining starts from nothing that was pretrained, in networks of any library."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adapt.backbones import FrozenBatchNorm
from adapt.baselines.retrain import _fresh
from adapt.meta.schedule import one_cycle


class NormAct(FrozenBatchNorm):
    """A norm with its activation inside, as in timm."""

    def __init__(self) -> None:
        super().__init__(3)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class Scale(nn.Module):
    """A norm of another library: no ``reset_parameters``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.full((3,), 5.0)), nn.Parameter(torch.full((3,), 6.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + self.bias


class Network(nn.Module):
    """``[n, 3] → [n, 3]``, with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.full((1, 3), 7.0))
        self.scale, self.norm = Scale(), NormAct()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.norm(x[:, :, None, None]).flatten(1) + self.token)


def test_all_pretrained_values_are_forgotten() -> None:
    pretrained = Network()
    network = _fresh(pretrained, 2, torch.ones(4, 3), torch.Generator().manual_seed(0))
    fresh = network[0]
    assert 0 < fresh.token.abs().max() < 0.1
    assert fresh.scale.weight.tolist() == [1, 1, 1] and fresh.scale.bias.tolist() == [0, 0, 0]
    assert [type(layer) for layer in fresh.norm] == [nn.BatchNorm2d, nn.ReLU], "the activation is lost"
    assert network(torch.randn(4, 3)).shape == (4, 2)
    assert pretrained.token.tolist() == [[7, 7, 7]], "the backbone was written to"


def test_it_is_a_function_of_the_seed() -> None:
    one, same, other = (
        _fresh(Network(), 2, torch.ones(4, 3), torch.Generator().manual_seed(seed))[0].token
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("rise", [0.0, 0.1, 0.2, 0.3, 0.5, 0.9])
def test_rates_of_any_number_of_steps(rise: float) -> None:
    """They begin low, come to the peak and end near 0; a rise of exactly one step is no division by 0, and
    few steps train too."""
    for steps in range(1, 31):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        schedule, rates = one_cycle(optimizer, [1.0], steps, rise), []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(rates) < steps:
                schedule.step()
        assert all(0 < rate <= 1 for rate in rates), (steps, rates)
        assert (rates == [1.0]) if steps == 1 else (rates[-1] <= 1e-4)
        assert max(rates) > (0.4 if steps < 10 else 0.8), (steps, rates)
