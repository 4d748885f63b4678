"""One start for many domains: the middle of several, and the directions in which they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.meta import MetaTraining, initial_basis
from adapt.meta.soup import origins_of, soup
from adapt.spaces import Space, bias, full


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).requires_grad_(False)


def planted(space: Space) -> torch.Tensor:
    """Two starts: one moves the first number by 3, the other the second by 6."""
    moves = torch.zeros(2, space.size)
    moves[0, 0], moves[1, 1] = 3.0, 6.0
    return space.initial + moves


def test_the_middle_counts_the_network_as_it_is() -> None:
    space = full(network())
    state = soup(space, planted(space), 2)
    expected = torch.zeros(space.size)
    expected[0], expected[1] = 1.0, 2.0
    torch.testing.assert_close(state.origin - space.initial, expected)


def test_directions_have_the_covariance_of_the_starts() -> None:
    """Of (0, 0), (3, 0) and (0, 6): variances 2 and 8, covariance −2, everything else 0."""
    space = full(network())
    basis = soup(space, planted(space), 5).basis
    covariance = basis @ basis.T
    torch.testing.assert_close(covariance[:2, :2], torch.tensor([[2.0, -2.0], [-2.0, 8.0]]))
    assert covariance[2:].abs().max() == 0
    assert basis[:, 0].norm() > basis[:, 1].norm()
    torch.testing.assert_close(soup(space, planted(space), 5, radius=3.0).basis, 3 * basis)


def test_every_start_and_the_network_lie_in_the_span() -> None:
    space = full(network())
    starts = planted(space)
    state = soup(space, starts, 2)
    for point in (*starts, space.initial):
        z = torch.linalg.lstsq(state.basis, (point - state.origin)[:, None]).solution
        torch.testing.assert_close(state.origin + (state.basis @ z)[:, 0], point, atol=1e-5, rtol=0)


@pytest.fixture
def saved(tmp_path: Path) -> list[str]:
    module = network()
    space = full(module)
    for name, origin in zip(("one", "two"), planted(space), strict=True):
        state = initial_state(origin, torch.ones(space.size, 1))
        FewShotAdapter(module, space, state).save_pretrained(tmp_path / name)
    return [str(tmp_path / name) for name in ("one", "two")]


def settings(**changes: Any) -> MetaTraining:
    return MetaTraining(**{"basis": "starts", "k": 2, **changes})


def test_a_first_basis_is_made_of_saved_adapters(saved: list[str]) -> None:
    module = network()
    space = full(module)
    problem = FewShotAdapter(module, space, initial_state(space.initial, torch.ones(space.size, 1))).problem
    state = initial_basis(module, space, problem, [], settings(starts=saved))
    expected = soup(space, planted(space), 2)
    assert all(torch.equal(a, b) for a, b in zip(state, expected, strict=True))
    held = initial_basis(module, space, problem, [], settings(starts=saved, moves="0.bias"))
    assert held.basis.norm() == 0, "only weights of the first layer were planted"


def test_adapters_of_another_space_or_network_are_refused(saved: list[str]) -> None:
    module = network()
    with pytest.raises(AdaptError, match=r"is no adapter of space 'bias' with its 6 numbers"):
        origins_of(saved, module, bias(module))
    other = nn.Linear(3, 2).requires_grad_(False)
    with pytest.raises(AdaptError, match=r"weights are not those"):
        origins_of(saved, other, full(other))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, r"names the adapters that meta.basis=starts mixes: give both"),
        ({"basis": "random", "starts": ["a/one"]}, r"give both"),
        ({"starts": "one"}, r"a list of folders of adapters"),
        ({"starts": [1]}, r"a list of folders of adapters"),
    ],
)
def test_settings_that_do_not_belong_together(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(AdaptError, match=match):
        settings(**changes)
