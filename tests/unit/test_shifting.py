"""Norms of any kind: those whose shift follows, those that are left out, and those that follow nothing."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from adapt import AdaptError
from adapt.adapter import FewShotAdapter
from adapt.backbones import FrozenBatchNorm, call, freeze_batch_norm
from adapt.inner import Descent, GaussNewton, Solver
from adapt.spaces import bias, film, named
from adapt.spaces.shifting import shifting_norms
from adapt.spaces.statistics import channel_means, statistics_move


class Acting(nn.GroupNorm):
    """With an activation behind, as timm's ``GroupNormAct``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Scaled(nn.LayerNorm):
    """(x̂ + b) g."""

    def forward(self, x: Tensor) -> Tensor:
        return (nn.functional.layer_norm(x, self.normalized_shape) + self.bias) * self.weight


class Both(nn.LayerNorm):
    """Gives what came in, too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


@pytest.mark.parametrize(
    ("norm", "axes"),
    [
        (nn.LayerNorm(6), {2: 1, 3: 2, 4: 3, 5: 4}),
        (nn.GroupNorm(2, 6), {2: 1, 3: 1, 4: 1, 5: 1}),
        (nn.InstanceNorm2d(6, affine=True), {4: 1}),
        (nn.LayerNorm(1), {2: 1, 3: 2, 4: 3, 5: 4}),
        (nn.LayerNorm([6, 4]), None),
        (nn.LayerNorm(6, bias=False), None),
        (nn.RMSNorm(6), None),
        (Acting(2, 6), None),
        (Scaled(6), None),
        (Both(6), None),
    ],
)
def test_axis_of_the_channels(norm: nn.Module, axes: dict[int, int] | None) -> None:
    network = nn.Sequential(nn.Linear(6, 6), norm)
    found = shifting_norms(network, film(network))
    assert {name: it.axes for name, it in found.items()} == ({} if axes is None else {"1.bias": axes})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("norm", [nn.LayerNorm(64), nn.GroupNorm(4, 64)])
def test_any_precision_and_nobody_notices(norm: nn.Module, dtype: torch.dtype) -> None:
    seen: list[object] = []
    network = nn.Sequential(nn.Linear(6, 64), norm).to(dtype)
    handle = norm.register_forward_hook(lambda *given: seen.append(given))
    assert shifting_norms(network, film(network)).keys() == {"1.bias"} and not seen
    assert norm.weight.dtype == dtype
    handle.remove()


def images(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(50, 3, 6, 6, generator=torch.Generator().manual_seed(0)) + 1


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_a_shift_alone_centres_by_the_scale_that_stays(scale: float) -> None:
    torch.manual_seed(0)
    network = freeze_batch_norm(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval())
    norm = network[1]
    norm.weight.data.uniform_(0.5, 2)
    norm.running_var.uniform_(0.5, 2)
    for space in (bias(network), film(network)):
        moved = space.initial + statistics_move(network, space, space.initial, images(scale))
        y = call(network, space.parameters(moved), images(scale)).detach()
        own = space.tensors(moved).get("1.bias")
        assert own is not None
        torch.testing.assert_close(y.mean((0, 2, 3)), norm.bias.detach(), atol=1e-4, rtol=1e-4)
    only = named("scales", network, ["1.weight"])
    moved = only.initial + statistics_move(network, only, only.initial, images(scale))
    y = call(network, only.parameters(moved), images(scale)).detach()
    torch.testing.assert_close(y.std((0, 2, 3), unbiased=False), norm.weight.detach(), atol=0.02, rtol=0)


def test_later_norms_see_what_earlier_ones_make() -> None:
    torch.manual_seed(0)
    network = freeze_batch_norm(
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)
        ).eval()
    )
    space = bias(network)
    moved = space.initial + statistics_move(network, space, space.initial, images(3.0))
    y = call(network, space.parameters(moved), images(3.0)).detach()
    torch.testing.assert_close(y.mean((0, 2, 3)), network[4].bias.detach(), atol=1e-4, rtol=1e-4)


class Twice(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.last = norm, nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.norm(x).relu() + 1))


def test_a_norm_that_runs_twice_follows_nothing() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    network = Twice(nn.LayerNorm(4)).eval()
    space = film(network)
    means = channel_means(network, space, space.initial, x)
    assert means.keys() == {"last.bias"}
    move = statistics_move(network, space, space.initial, x, means)
    torch.testing.assert_close(move, torch.zeros(space.size), atol=1e-5, rtol=0)
    frozen = Twice(FrozenBatchNorm(4)).eval()
    space = film(frozen)
    with pytest.raises(AdaptError, match="norm 'norm' runs more than once in a pass"):
        statistics_move(frozen, space, space.initial, x)


@pytest.mark.parametrize("solver", [GaussNewton(), Descent()])
def test_a_module_that_is_used_twice_is_never_changed(solver: Solver) -> None:
    torch.manual_seed(0)
    norm, x = nn.LayerNorm(8), torch.randn(12, 4)
    network = nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), nn.Linear(8, 8), norm).eval()
    adapter = FewShotAdapter.of(network).replace(solver=solver)
    before = network(x).detach()
    task = adapter.fit(x, [0, 1, 2] * 4)
    assert torch.equal(adapter.backbone(x), before) and task.z.any()
    kept = adapter.backbone.get_submodule("1")
    assert kept is adapter.backbone.get_submodule("4") and isinstance(kept.bias, nn.Parameter)
    moved, both = deepcopy(adapter.backbone), dict(task.parameters)
    both |= {name.replace("1.", "4.", 1): it for name, it in both.items()}
    moved.load_state_dict({**moved.state_dict(), **both})
    torch.testing.assert_close(call(adapter.backbone, task.parameters, x), moved(x).detach())


class Called(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.norm = how, FrozenBatchNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(input=x) if self.how == "named" else self.norm.forward(x)


def test_a_norm_is_called_as_torchs_may_be() -> None:
    x = 3 * torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    network = Called("named")
    space = film(network)
    moved = space.initial + statistics_move(network, space, space.initial, x)
    y = call(network, space.parameters(moved), x)
    torch.testing.assert_close(y, (x - x.mean(0)) / x.std(0, unbiased=False), atol=1e-4, rtol=1e-4)
    with pytest.raises(AdaptError, match="no norm that the space moves ran as a module"):
        statistics_move(Called("past its hooks"), space, space.initial, x)
