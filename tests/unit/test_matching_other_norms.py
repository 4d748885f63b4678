"""Layer and group norms whose channels follow the means of before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from adapt import AdaptError
from adapt.adapter import FewShotAdapter, Matching, initial_state
from adapt.backbones import FrozenBatchNorm, ResNet12, ViT, call
from adapt.heads import Logistic
from adapt.inner import GaussNewton
from adapt.spaces import bias, film
from adapt.spaces.statistics import channel_means, statistics_move


class ChannelsFirst(nn.LayerNorm):
    """Of images, as in ConvNeXt (timm, torchvision)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Plain(nn.Module):
    """As many write it: its shift is no ``bias``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(1, 1, channels)), nn.Parameter(torch.zeros(channels))
        self.eps = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return self.gamma * x * (x.var(-1, keepdim=True) + self.eps).rsqrt() + self.beta


NETWORKS = {
    "groups": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.GroupNorm(3, 6),
        nn.Flatten(),
    ),
    "tokens": lambda: nn.Sequential(
        nn.Linear(8, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 4), nn.LayerNorm(4), nn.Flatten()
    ),
    "as many channels as columns": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.Flatten()
    ),
    "as many channels as columns, layer norm": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 3), ChannelsFirst(6), nn.ReLU(), nn.Conv2d(6, 4, 3), ChannelsFirst(4), nn.Flatten()
    ),
    "as many channels as tokens": lambda: nn.Sequential(
        nn.Linear(8, 8), nn.Flatten(1, 2), nn.LayerNorm(8), nn.Flatten()
    ),
    "one's own": lambda: nn.Sequential(nn.Linear(8, 5), Plain(5), nn.Tanh(), nn.Linear(5, 4), Plain(4)),
    "one layer norm of whole maps": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.LayerNorm([4, 6, 6]), nn.ReLU(), nn.GroupNorm(2, 4), nn.Flatten()
    ),
    "resnet12": lambda: ResNet12(channels=1, width=16, norm="group"),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
    return network


def images(n: int, seed: int, shift: float = 0.0, side: int = 8) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) ** (1 + shift) - shift


@pytest.mark.parametrize("name", NETWORKS)
def test_every_channel_has_the_mean_of_before(name: str) -> None:
    network, side = made(name), 16 if name == "resnet12" else 8
    space = film(network)
    before, x = images(20, 1, side=side), images(6, 2, 0.8, side)
    means = channel_means(network, space, space.initial, before)
    shifts = [key for key, value in network.named_parameters() if key in space.shapes and value.ndim == 1]
    assert list(means) == [key for key in shifts if key.endswith(("bias", "beta"))]
    move = statistics_move(network, space, space.initial, x, means)
    there = channel_means(network, space, space.initial + move, x)
    for key, mean in means.items():
        torch.testing.assert_close(there[key], mean, rtol=1e-4, atol=1e-5)
    apart = channel_means(network, space, space.initial, x)
    assert any((apart[key] - means[key]).abs().max() > 0.01 for key in means)
    scales = space.tensors(move)
    assert not any(value.any() for key, value in scales.items() if key.endswith("weight"))
    torch.testing.assert_close(
        statistics_move(network, space, space.initial, before, means),
        torch.zeros(space.size),
        atol=1e-5,
        rtol=0,
    )


def test_shifts_alone_are_enough_and_norms_outside_the_space_stay() -> None:
    network, before, x = made("groups"), images(20, 1), images(6, 2, 0.8)
    shifts, last = bias(network), film(network, skip=1)
    assert channel_means(network, shifts, shifts.initial, before).keys() == {"1.bias", "4.bias"}
    assert channel_means(network, last, last.initial, before).keys() == {"4.bias"}
    means = channel_means(network, shifts, shifts.initial, before)
    move = shifts.tensors(statistics_move(network, shifts, shifts.initial, x, means))
    assert move["1.bias"].any() and not move["0.bias"].any()


def test_derivatives_and_batches_of_tasks() -> None:
    network = made("tokens")
    space = film(network)
    means = channel_means(network, space, space.initial, images(20, 1))
    tasks = torch.stack([images(6, seed, 0.5) for seed in range(3)])

    def move(phi: Tensor, x: Tensor) -> Tensor:
        return statistics_move(network, space, phi, x, means)

    phi = space.initial + 0.1
    together = vmap(move, (None, 0))(phi, tasks)
    for found, x in zip(together, tasks, strict=True):
        torch.testing.assert_close(found, move(phi, x))
    slope, step = jacrev(move)(phi, tasks[0]), 1e-3 * torch.ones(space.size)
    ahead, behind = move(phi + step, tasks[0]), move(phi - step, tasks[0])
    torch.testing.assert_close(slope @ step, (ahead - behind) / 2, rtol=1e-2, atol=1e-6)


def test_a_network_of_both_kinds_matches_both() -> None:
    network = ViT(channels=1, width=16, depth=1, heads=2, patch=2).eval()
    space = film(network)
    means = channel_means(network, space, space.initial, images(10, 1))
    alone = space.tensors(statistics_move(network, space, space.initial, images(6, 2, 0.8)))
    both = space.tensors(statistics_move(network, space, space.initial, images(6, 2, 0.8), means))
    stem = [name for name, module in network.named_modules() if isinstance(module, FrozenBatchNorm)]
    assert stem and all(alone[f"{name}.bias"].any() and both[f"{name}.bias"].any() for name in stem)
    assert not alone["norm.bias"].any() and both["norm.bias"].any()


def test_a_classifier_with_layer_norms_follows_a_shift() -> None:
    centres = torch.tensor([[3.0, 0.0, 0.0], [-2.0, 2.0, 1.0], [-1.0, -3.0, -1.0]])

    def clusters(n: int, seed: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(n) % 3
        return centres[y] + 0.4 * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)), y

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 12), nn.LayerNorm(12)).eval().requires_grad_(False)
    space = film(network)
    state = initial_state(space.initial.clone(), torch.zeros(space.size, 0))
    adapter = FewShotAdapter(network, space, state, GaussNewton(steps=0), Logistic(0.01))
    (x, y), (other, _), (new, truth) = clusters(60, 1), clusters(60, 2), clusters(300, 3)
    task, away = adapter.fit(x, y), torch.tensor([5.0, -4.0, 3.0])
    found = task.fit(other + away, source=x, match=Matching(1.0), checked=False)
    kept = task.fit(other + away, source=task.source(x), match=Matching(1.0), checked=False)
    assert found.score(new + away, truth) > task.score(new + away, truth) + 0.05
    torch.testing.assert_close(found.logits(new), kept.logits(new))
    with pytest.raises(AdaptError, match=r"other norms follow in task\.fit with a source"):
        task.fit(other + away, match=Matching(1.0))
    mute = nn.Sequential(nn.Linear(3, 12), nn.LayerNorm(12, bias=False)).eval().requires_grad_(False)
    space = film(mute)
    none = initial_state(space.initial.clone(), torch.zeros(space.size, 0))
    still = FewShotAdapter(mute, space, none, GaussNewton(steps=0), Logistic(0.01)).fit(x, y)
    with pytest.raises(AdaptError, match="nor another norm that adds a shift of its channels"):
        still.fit(other + away, source=x, match=Matching(1.0))
    assert call(network, task.parameters, x).shape == (60, 12)
