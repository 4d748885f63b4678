"""Which tensors a space finds, what it does with shared ones, and errors that name the fix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt import AdaptError
from adapt.backbones import freeze_batch_norm
from adapt.spaces import Subspace, bias, film, full


def test_film_is_scale_and_shift_of_every_norm() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Sequential(nn.GroupNorm(2, 4)))
    assert film(net).shapes == {"1.weight": (4,), "1.bias": (4,), "2.0.weight": (4,), "2.0.bias": (4,)}


def test_film_skips_norms_without_affine_parameters() -> None:
    net = nn.Sequential(nn.LayerNorm(4, elementwise_affine=False), nn.LayerNorm(4))
    assert [*film(net).shapes] == ["1.weight", "1.bias"]


def test_bias_is_every_bias() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False), nn.LayerNorm(2))
    assert bias(net).shapes == {"0.bias": (4,), "2.bias": (2,)}


def test_full_is_everything_and_keeps_shapes_and_values() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 4))
    space = full(net)
    values = space.parameters(space.initial)
    expected = dict(net.named_parameters())
    assert [*values] == [*expected]
    assert all(torch.equal(values[name], expected[name]) for name in expected)
    assert space.size == sum(p.numel() for p in net.parameters())


def test_a_module_that_is_itself_a_norm() -> None:
    assert [*film(nn.LayerNorm(3)).shapes] == ["weight", "bias"]


class Tied(nn.Module):
    """Input and output weights are one tensor, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.outer.weight = self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x)))


def test_tied_weights_are_adapted_once_and_stay_tied() -> None:
    net, x = Tied(), torch.ones(2, 3)
    space = full(net)
    assert space.shapes == {"inner.weight": (3, 3), "outer.bias": (3,)}
    moved = functional_call(net, space.parameters(space.initial + 0.1), (x,))
    weight, shift = net.inner.weight + 0.1, net.outer.bias + 0.1
    assert torch.allclose(moved, torch.tanh(x @ weight.T) @ weight.T + shift, atol=1e-6)


def test_nothing_to_adapt_names_the_fix() -> None:
    plain = nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3, affine=False))
    with pytest.raises(AdaptError, match=r"'film' finds nothing .* in Sequential: .*freeze_batch_norm"):
        film(plain)
    with pytest.raises(AdaptError, match=r"'bias' .* use space=film or space=full"):
        bias(plain)
    with pytest.raises(AdaptError, match=r"'full' .* no parameters"):
        full(nn.ReLU())


def test_film_wants_batch_norm_frozen_first() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(AdaptError, match="freeze_batch_norm"):
        film(net)
    assert [*film(freeze_batch_norm(net)).shapes] == ["1.weight", "1.bias"]


def test_subspace_is_affine_and_checks_its_shapes() -> None:
    space = bias(nn.Linear(2, 3))
    basis = torch.arange(6.0).view(3, 2)
    subspace = Subspace(space, torch.ones(3), basis)
    assert subspace.k == 2
    assert torch.equal(subspace.parameters(torch.tensor([1.0, 2.0]))["bias"], torch.tensor([3.0, 9.0, 15.0]))
    for origin, u in ((torch.ones(2), basis), (torch.ones(3), basis.T)):
        with pytest.raises(AdaptError, match=r"do not fit the 3 parameters .* expected \[3\] and \[3, k\]"):
            Subspace(space, origin, u)
    with pytest.raises(AdaptError, match="do not fit"):
        Subspace(space, torch.ones(3), torch.tensor(1.0))


def test_a_vector_for_a_basis_is_a_diagonal_one() -> None:
    space = bias(nn.Linear(2, 3))
    origin, scale = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, -2.0, 0.5])
    short, dense = Subspace(space, origin, scale), Subspace(space, origin, torch.diag(scale))
    assert short.k == dense.k == 3
    z = torch.tensor([2.0, 3.0, 4.0])
    assert short.parameters(z)["bias"].tolist() == [3.0, -4.0, 5.0]
    assert torch.equal(short.parameters(z)["bias"], dense.parameters(z)["bias"])
    points = torch.stack([z, -z])
    both = torch.func.vmap(short.parameters)(points)["bias"]
    assert torch.equal(both, torch.stack([short.parameters(point)["bias"] for point in points]))
    with pytest.raises(AdaptError, match="do not fit"):
        Subspace(space, origin, scale[:2])
