"""Norms that follow the statistics of the support set, against batch norm in training mode."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt import AdaptError
from adapt.adapter import FewShotAdapter, Matching, Problem, initial_state
from adapt.adapter.matching import matched_state
from adapt.backbones import Conv4, call, freeze_batch_norm
from adapt.heads import Logistic, one_hot
from adapt.inner import GaussNewton
from adapt.meta.query import Learner
from adapt.spaces import Space, bias, combine, film, full, lora, named
from adapt.spaces.statistics import statistics_move
from tasks import Distribution
from tests.command_line import TINY
from tests.command_line import call as command
from tests.helpers import SIDE, make_source

ALONE = GaussNewton(steps=0)


def network(seed: int = 0) -> nn.Sequential:
    """Two batch norms whose statistics are far from those of what is shown to them."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.BatchNorm2d(5),
        nn.Tanh(), nn.Flatten(), nn.Linear(5 * (SIDE // 2 - 2) ** 2, 6), nn.BatchNorm1d(6),
    )  # fmt: skip
    for norm in made:
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            for tensor in (norm.weight, norm.running_var):
                tensor.data = torch.rand_like(tensor) + 0.5
            for tensor in (norm.bias, norm.running_mean):
                tensor.data = torch.randn_like(tensor)
    return made.eval()


def images(n: int = 12, seed: int = 1) -> Tensor:
    return 2 * torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) + 0.5


def in_training_mode(made: nn.Module, x: Tensor) -> Tensor:
    return copy.deepcopy(made).train()(x).detach()


def test_the_move_makes_what_training_mode_computes() -> None:
    made, x = network(), images()
    wanted = in_training_mode(made, x)
    frozen = freeze_batch_norm(made)
    for space in (film(frozen), full(frozen), combine(film(frozen), lora(frozen, rank=1))):
        phi = space.initial + statistics_move(frozen, space, space.initial, x)
        torch.testing.assert_close(call(frozen, space.parameters(phi), x), wanted, rtol=1e-4, atol=1e-5)


def test_of_other_scales_and_shifts_than_those_of_the_network() -> None:
    made, x = network(), images()
    frozen = freeze_batch_norm(copy.deepcopy(made))
    space = film(frozen)
    phi = space.initial + 0.3 * torch.randn(space.size, generator=torch.Generator().manual_seed(2))
    made.load_state_dict(space.parameters(phi), strict=False)
    moved = phi + statistics_move(frozen, space, phi, x)
    found = call(frozen, space.parameters(moved), x)
    torch.testing.assert_close(found, in_training_mode(made, x), rtol=1e-4, atol=1e-5)


def test_norms_outside_the_space_stay_and_shifts_alone_move_what_they_can() -> None:
    frozen, x = freeze_batch_norm(network()), images()
    last = film(frozen, skip=2)
    assert last.shapes.keys() == {"8.weight", "8.bias"}
    before = frozen[:8](x)
    phi = last.initial + statistics_move(frozen, last, last.initial, x)
    norm = frozen[8]
    wanted = (before - before.mean(0)) / (before.var(0, unbiased=False) + norm.eps).sqrt()
    wanted = (wanted * norm.weight + norm.bias).detach()
    torch.testing.assert_close(call(frozen, last.parameters(phi), x), wanted, rtol=1e-4, atol=1e-5)

    shifts = named("shifts", frozen, ["8.bias", "7.bias"])
    moved = shifts.tensors(shifts.initial + statistics_move(frozen, shifts, shifts.initial, x))
    assert torch.equal(moved["7.bias"], frozen[7].bias)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(moved["8.bias"], norm.bias + (norm.running_mean - before.mean(0)) * scale)


def test_the_network_is_left_as_it_was() -> None:
    frozen, x = freeze_batch_norm(network()), images()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    space = film(frozen)
    statistics_move(frozen, space, space.initial, x)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(module._forward_hooks for module in frozen.modules())
    with pytest.raises(RuntimeError):
        statistics_move(frozen, space, space.initial, x[:, :, :2, :2])
    assert not any(module._forward_hooks for module in frozen.modules())


@pytest.mark.parametrize(("mix", "deviation", "parts"), [(0.0, 0.5, 1), (1.0, 0.25, 3), (0.3, 0.0, 2)])
def test_start_and_directions(mix: float, deviation: float, parts: int) -> None:
    frozen, x = freeze_batch_norm(network()), images()
    space = film(frozen)
    state = initial_state(space.initial.clone(), torch.randn(space.size, 2))
    move = statistics_move(frozen, space, state.origin, x)
    found = matched_state(Matching(mix, deviation, parts), frozen, space, state, x)
    torch.testing.assert_close(found.origin, state.origin + mix * move)
    assert torch.equal(found.basis[:, :2], state.basis)
    added = found.basis[:, 2:]
    assert added.shape[1] == (parts if deviation else 0) == found.k - 2 == len(found.log_precision) - 2
    if deviation:
        torch.testing.assert_close(added.sum(1), deviation * move)
        assert ((added != 0).sum(1) <= 1).all() and (added != 0).any(0).all()


@pytest.fixture
def adapter() -> FewShotAdapter:
    frozen = freeze_batch_norm(network())
    space = film(frozen)
    basis = 0.1 * torch.randn(space.size, 2, generator=torch.Generator().manual_seed(3))
    state = initial_state(space.initial.clone(), basis)
    return FewShotAdapter(frozen, space, state, head=Logistic(0.1), match=Matching(0.5))


def test_fit_at_a_mix_of_one_is_a_head_on_features_of_training_mode(adapter: FewShotAdapter) -> None:
    x, y = images(), torch.arange(12) % 3
    task = adapter.replace(match=Matching(1.0, 0.0), solver=ALONE).fit(x, y)
    features = in_training_mode(network(), x)
    head = adapter.head
    state = head.fit(features, one_hot(y, 3, features.dtype))
    torch.testing.assert_close(task.logits(x), head.logits(state, features), rtol=1e-3, atol=1e-3)


def test_the_mix_is_one_more_direction_of_the_solver(adapter: FewShotAdapter) -> None:
    x, y = images(), torch.arange(12) % 3
    lower = adapter.replace(match=Matching(0.2, 0.5)).fit(x, y)
    alone = adapter.replace(match=Matching(0.2, 0.0)).fit(x, y)
    assert len(lower.z) == 3 and len(alone.z) == 2 and lower.adapter.match is None
    assert lower.z[2] != 0 and lower.posterior is not None and lower.posterior.z.shape == (3,)
    task = adapter.matched(torch.cat([x, images(30, seed=9)])).fit(x, y)
    assert len(task.z) == 3 and not torch.equal(task.z, lower.z)


def test_meta_training_adapts_as_fit_does(adapter: FewShotAdapter) -> None:
    episode = Distribution(make_source(), 3, 4, 5, "train").episode(0)
    learner = Learner(adapter.backbone, adapter.space, adapter.solver, adapter.problem, adapter.match)
    z, outputs = learner.adapt(adapter.state, episode)
    task = adapter.fit(episode.support_x, episode.support_y)
    torch.testing.assert_close(z, task.z, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(outputs, task.logits(episode.query_x), rtol=1e-3, atol=1e-3)


def test_the_start_has_a_slope_through_the_statistics() -> None:
    frozen, x = freeze_batch_norm(network()).double(), images(4).double()
    space = film(frozen)

    def matched(phi: Tensor) -> Tensor:
        return statistics_move(frozen, space, phi, x)

    assert torch.autograd.gradcheck(matched, (space.initial.double().requires_grad_(),), atol=1e-5)


def test_tasks_in_a_batch_are_matched_one_by_one() -> None:
    frozen = freeze_batch_norm(network())
    space = film(frozen)
    x = torch.stack([images(seed=seed) for seed in (4, 5)])
    together = torch.func.vmap(lambda one: statistics_move(frozen, space, space.initial, one))(x)
    alone = torch.stack([statistics_move(frozen, space, space.initial, one) for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_adapter_and_task_are_saved_and_loaded(adapter: FewShotAdapter, tmp_path: Path) -> None:
    adapter.save_pretrained(tmp_path / "adapter")
    again = adapt.load(tmp_path / "adapter", adapter.backbone)
    assert again.match == adapter.match
    x, y = images(), ["a", "b", "c"] * 4
    task = again.fit(x, y)
    task.save_pretrained(tmp_path / "task")
    loaded = adapt.load(tmp_path / "task", adapter.backbone)
    assert torch.equal(loaded.logits(x), task.logits(x)) and loaded.adapter.match is None


SPACES: dict[str, Callable[[nn.Module], Space]] = {
    "no norms": lambda net: named("last", net, ["7.weight"]),
    "merged": lambda net: lora(net, rank=1),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_space_without_frozen_batch_norms_is_refused(space: Callable[[nn.Module], Space]) -> None:
    frozen = freeze_batch_norm(network())
    made = FewShotAdapter.of(frozen, space, match=Matching())
    with pytest.raises(AdaptError, match="moves no frozen batch norm"):
        made.fit(images(), torch.arange(12) % 3)


@pytest.mark.parametrize("wrong", [{"mix": 1.5}, {"mix": -0.1}, {"deviation": -1.0}, {"parts": 0}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(AdaptError, match=f"match.{next(iter(wrong))}"):
        Matching(**wrong)


def test_what_cannot_be_matched_says_so(adapter: FewShotAdapter) -> None:
    with pytest.raises(AdaptError, match="match is None"):
        adapter.replace(match=None).matched(images())
    with pytest.raises(AdaptError, match="Matching"):
        adapter.replace(match=0.5)
    direct = adapter.replace(head=adapt.heads.Direct(), support_head=adapt.heads.Direct())
    with pytest.raises(AdaptError, match="each client's own examples"):
        direct.statistics(images(), torch.arange(12) % 6, classes=range(6))


def test_other_libraries_start_where_the_task_starts(adapter: FewShotAdapter) -> None:
    from adapt.adapter import Context, Support
    from adapt.baselines._module import adapt_by

    x, y = images(), torch.arange(12) % 3
    stay = adapt_by(lambda start, loss: start, adapter)
    found = stay(Support(x, y, ("a", "b", "c")), lambda predictor: None)(x)
    torch.testing.assert_close(found, adapter.replace(solver=ALONE).fit(x, y).logits(x), rtol=1e-4, atol=1e-4)
    assert Context(adapter.backbone, adapter).adapter.match == replace(Matching(0.5))


def test_command_line(tmp_path: Path) -> None:
    typed = [*TINY, "match=norms", "match.mix=0.25", "task.shots=2"]
    assert command(typed, tmp_path) == 0


def test_conv4_as_it_ships() -> None:
    space = film(shipped := Conv4().eval())
    moved = statistics_move(shipped, space, space.initial, 3 + torch.rand(8, 1, 32, 32))
    assert moved.shape == (space.size,) and bool(moved.any())
    assert bias(shipped).size and Problem().head
