"""What holds the first time and not the second: kept tensors, other shapes, switches, orders of loaders."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

import adapt
from adapt.adapter import FewShotAdapter, initial_state
from adapt.adapter.loaders import parts_of
from adapt.compare.statistics import holm
from adapt.errors import AdaptError
from adapt.forward import pushforward
from adapt.spaces import full
from tasks.readers.pictures import pixels

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def adapter(backbone: nn.Module) -> FewShotAdapter:
    space = full(backbone)
    basis = torch.randn(space.size, 2, generator=torch.Generator().manual_seed(1)) / 20
    return FewShotAdapter(backbone, space, initial_state(space.initial, basis))


def test_a_moving_tensor_that_outlives_its_pass_is_refused() -> None:
    """Its tangents are those of the pass before."""
    kept: dict[str, Tensor] = {}

    def f(z: Tensor) -> Tensor:
        if "square" not in kept:
            kept["square"] = z**2
        return z * kept["square"]

    columns = torch.eye(3)
    assert torch.allclose(pushforward(f, torch.ones(3), columns)[1], 3 * columns)
    with pytest.raises(AdaptError, match="kept from an earlier call"):
        pushforward(f, torch.ones(3), 10 * columns)


class Switched(nn.Module):
    """Its features are random once its switch says so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.mode, self.level = nn.Linear(3, 8), "plain", 0

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.layer(x), 0.5, self.mode == "noisy" or self.level > 0)


@pytest.mark.parametrize(("name", "value"), [("mode", "noisy"), ("level", 1)])
def test_a_switch_that_is_turned_between_fit_and_predict_is_seen(name: str, value: object) -> None:
    backbone = Switched().eval()
    task = adapter(backbone).fit(X, LABELS)
    setattr(backbone, name, value)
    with pytest.raises(AdaptError, match="dropout"):
        task.predict(X)


def test_a_forward_that_is_put_in_place_of_the_first_is_seen() -> None:
    backbone = Switched().eval()
    task = adapter(backbone).fit(X, LABELS)
    backbone.forward = lambda x: F.dropout(backbone.layer(x), 0.5, True)  # type: ignore[method-assign]
    with pytest.raises(AdaptError, match="dropout"):
        task.predict(X)


class Folding(nn.Module):
    """Right for pictures of one size; of larger ones it makes several rows each."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.layer(x), 4).reshape(-1, 16)


def test_examples_of_another_shape_are_looked_at_again() -> None:
    task = adapter(Folding().eval()).fit(torch.rand(8, 1, 8, 8), LABELS)
    assert task.predict_proba(torch.rand(3, 1, 8, 8)).shape == (3, 2)
    with pytest.raises(AdaptError, match="backbone cannot be adapted"):
        task.predict_proba(torch.rand(8, 1, 16, 16))


DATA = TensorDataset(X)


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 4, False)),
        lambda: DataLoader(DATA, batch_size=3, drop_last=True),
        lambda: DataLoader(DATA, batch_size=4, shuffle=True),
    ],
)
def test_a_loader_that_does_not_give_each_example_in_turn_is_refused(
    loader: Callable[[], DataLoader],
) -> None:
    with pytest.raises(AdaptError, match="in no known order, or that leaves examples out"):
        parts_of(loader(), ordered=True)


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(DATA, batch_sampler=BatchSampler(SequentialSampler(DATA), 3, False)),
        lambda: DataLoader(DATA, batch_size=4, drop_last=True),
        lambda: DataLoader(DATA, batch_size=None),
    ],
)
def test_a_loader_in_order_is_read(loader: Callable[[], DataLoader]) -> None:
    found = parts_of(loader(), ordered=True)[0]
    assert torch.equal(torch.stack(list(found)), X)


def test_a_state_of_another_size_than_its_space_is_refused() -> None:
    backbone = nn.Linear(3, 8).eval()
    space = full(backbone)
    with pytest.raises(AdaptError, match=r"space 'full' has 32 numbers, .* basis of \(3, 4\)"):
        FewShotAdapter(backbone, space, initial_state(space.initial, torch.randn(3, 4)))


@pytest.mark.parametrize("chance", [float("nan"), -0.1, 1.5])
def test_holm_takes_chances_only(chance: float) -> None:
    with pytest.raises(AdaptError, match="between 0 and 1"):
        holm([chance, 0.01])


def test_bytes_that_are_only_0_and_1_are_no_grey_values() -> None:
    """Read as 0 … 255 they would all be black."""
    mask = (torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.5).to(torch.uint8)
    shipped = adapt.load("conv4_glyphs_film")
    with pytest.raises(AdaptError, match="all of them 0 or 1"):
        shipped.examples(mask)
    assert torch.equal(shipped.examples(mask.float()), mask.float())
    assert torch.equal(shipped.examples(mask.bool()), mask.float())
    assert torch.equal(shipped.examples(255 * mask), mask.float())


def test_grey_values_of_32_bits_that_end_at_255_are_not_read_as_16() -> None:
    with pytest.raises(ValueError, match="white is not known"):
        pixels(Image.fromarray(np.arange(255, dtype=np.int32).reshape(15, 17)), 1)
