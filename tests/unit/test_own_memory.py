"""Modules that read the memory of their weights find the weight there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt.adapter import FewShotAdapter, initial_state
from adapt.forward import Engine, pushforward
from adapt.spaces import Space, Subspace, bias, combine, film, full, lora
from tests.helpers import distance

F64 = torch.float64
WIDTH = 4


class Strided(nn.Module):
    """A linear layer whose weight and bias are read from where their memory begins."""

    def __init__(self, reads: bool = True) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        weight, shift, scale = self.last.weight, self.last.bias, self.norm.weight
        if self.reads:
            weight = weight.as_strided((WIDTH, WIDTH), (WIDTH, 1), 0)
            shift, scale = shift.as_strided((WIDTH,), (1,), 0), scale.as_strided((WIDTH,), (1,), 0)
        return torch.tanh(h @ weight.mT + shift) * scale


SPACES: dict[str, Callable[[nn.Module], Space]] = {
    "full": full,
    "bias": bias,
    "film": film,
    "lora": lambda network: lora(network, rank=2),
    "both": lambda network: combine(film(network), lora(network, rank=2)),
}


def problem(make: Callable[[nn.Module], Space], reads: bool) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    torch.manual_seed(0)
    network = Strided(reads).double().requires_grad_(False)
    space = make(network)
    generator = torch.Generator().manual_seed(1)
    basis = 0.3 * torch.randn(space.size, 3, generator=generator, dtype=F64)
    x = torch.randn(5, 3, generator=generator, dtype=F64)
    subspace = Subspace(space, space.initial, basis)
    return lambda z: functional_call(network, subspace.parameters(z), (x,)), torch.full((3,), 0.5, dtype=F64)


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("name", SPACES)
def test_a_weight_is_read_from_its_own_memory(name: str, engine: Engine) -> None:
    tangents = torch.eye(3, dtype=F64)
    right, z = problem(SPACES[name], reads=False)
    found, _ = problem(SPACES[name], reads=True)
    expected = pushforward(right, z, tangents, engine="reference")
    for ours, theirs in zip(pushforward(found, z, tangents, engine=engine), expected, strict=True):
        assert distance(ours, theirs) <= 1e-12


@pytest.mark.parametrize("name", SPACES)
def test_no_two_adapted_tensors_share_memory(name: str) -> None:
    torch.manual_seed(0)
    network = Strided()
    space = SPACES[name](network)
    for tensors in (space.tensors(space.initial), space.parameters(space.initial)):
        places = [tensor.untyped_storage().data_ptr() for tensor in tensors.values()]
        assert len({*places, space.initial.untyped_storage().data_ptr()}) == len(places) + 1
        assert all(tensor.storage_offset() == 0 and tensor.is_contiguous() for tensor in tensors.values())


def test_an_adapter_of_such_a_module_predicts_what_the_plain_one_does() -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(12, 3, generator=generator), torch.tensor([0, 1, 2] * 4)
    tasks: list[Any] = []
    for reads in (False, True):
        torch.manual_seed(0)
        network = Strided(reads).eval()
        space = full(network)
        basis = torch.randn(space.size, 3, generator=torch.Generator().manual_seed(1)) * 0.1
        adapter = FewShotAdapter(
            network, space, initial_state(space.initial.clone(), basis), input_shape=(3,)
        )
        tasks.append(adapter.fit(x + y[:, None], y))
    assert tasks[0].z.abs().max() > 1e-3
    assert distance(tasks[1].z, tasks[0].z) <= 1e-5
    found, right = (torch.as_tensor(task.predict_proba(x)) for task in reversed(tasks))
    assert distance(found, right) <= 1e-5
