"""Frozen norms, fingerprints, and backbones on disk: whatever is damaged or foreign is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adapt import AdaptError
from adapt.backbones import (
    Conv4,
    FrozenBatchNorm,
    ResNet12,
    fingerprint,
    freeze_batch_norm,
    load_backbone,
    require,
    save_backbone,
    untrained,
)
from adapt.backbones.frozen import frozen
from tests.helpers import SIDE, randomised, save_tiny, tensors_in, tiny_conv4


def trained(norm: nn.Module, *shape: int) -> nn.Module:
    """``norm`` with statistics and affine parameters that are no identity, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for parameter in norm.parameters():
        parameter.data.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    norm.train()
    for _ in range(3):
        norm(3 + 2 * torch.randn(8, *shape, generator=generator))
    return norm.eval()


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(3), (3,)),
        (nn.BatchNorm1d(3), (3, 5)),
        (nn.BatchNorm2d(3), (3, 4, 5)),
        (nn.BatchNorm3d(3), (3, 2, 4, 5)),
        (nn.BatchNorm2d(3, eps=1e-2), (3, 4, 5)),
        (nn.BatchNorm2d(3, affine=False), (3, 4, 5)),
        (nn.BatchNorm2d(3).double(), (3, 4, 5)),
    ],
)
def test_frozen_norm_is_the_norm_in_evaluation_mode(norm: nn.Module, shape: tuple[int, ...]) -> None:
    dtype = next(norm.buffers()).dtype
    norm = trained(norm.float(), *shape).to(dtype)
    x = torch.randn(6, *shape, dtype=dtype)
    expected = norm(x)
    nested = freeze_batch_norm(nn.Sequential(nn.Sequential(norm)))
    for network in (freeze_batch_norm(norm), nested.get_submodule("0.0")):
        assert isinstance(network, FrozenBatchNorm)
        assert torch.allclose(network(x), expected, atol=1e-5)
        assert torch.equal(network.train()(x), network.eval()(x))


def test_freezing_reaches_every_norm_and_nothing_else() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), nn.GroupNorm(1, 2)
    )
    weights = {name: value.clone() for name, value in network.state_dict().items() if "tracked" not in name}
    frozen = freeze_batch_norm(network)
    assert frozen is network
    kinds = [type(module).__name__ for module in network.modules() if not list(module.children())]
    assert kinds == ["Conv2d", "FrozenBatchNorm", "ReLU", "GroupNorm"]
    assert network.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_a_norm_without_statistics_cannot_be_frozen() -> None:
    with pytest.raises(AdaptError, match=r"track_running_stats=False .*GroupNorm"):
        freeze_batch_norm(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)))


def test_a_norm_with_an_activation_keeps_it() -> None:
    """timm's ``BatchNormAct2d`` is a batch norm by inheritance, and more than that."""
    require("timm")
    from timm.layers import BatchNormAct2d

    norm = trained(BatchNormAct2d(3, act_layer=nn.ReLU6, inplace=True), 3, 4, 5)
    x = 5 * torch.randn(6, 3, 4, 5)
    expected, kept, names = norm(x), x.clone(), {*norm.state_dict()} - {"num_batches_tracked"}
    assert 0 == expected.min() < expected.max() == 6
    frozen = freeze_batch_norm(nn.Sequential(norm)).get_submodule("0")
    assert isinstance(frozen, FrozenBatchNorm)
    assert set(frozen.state_dict()) == names
    assert torch.allclose(frozen(x), expected, atol=1e-5)
    with torch.no_grad():
        frozen.weight.fill_(1)
        frozen.bias.copy_(frozen.running_mean)
        frozen.running_var.fill_(
            1 - frozen.eps
        )  # the identity, which must not hand its input to be overwritten
        frozen(x)
    assert torch.equal(x, kept)


def test_a_norm_with_an_unknown_forward_pass_cannot_be_frozen() -> None:
    class Doubled(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    with pytest.raises(AdaptError, match=r"Doubled .*forward pass of its own"):
        freeze_batch_norm(nn.Sequential(Doubled(2)))


def test_conv4_frozen_is_conv4_with_batch_norms_in_evaluation_mode() -> None:
    network = Conv4(width=4, frozen=False)
    network(torch.randn(8, 1, SIDE, SIDE))  # moves the statistics
    x = torch.randn(2, 1, SIDE, SIDE)
    expected = network.eval()(x)
    assert torch.allclose(freeze_batch_norm(network)(x), expected, atol=1e-5)


@pytest.mark.parametrize("size", [16, 17, 31, 32])
def test_conv4_features(size: int) -> None:
    assert Conv4(channels=3, width=5)(torch.zeros(2, 3, size, size)).shape == (2, 5 * (size // 16) ** 2)


def test_conv4_is_the_network_of_the_papers() -> None:
    """Pooling before the ReLU is the same as after it."""
    network, x = tiny_conv4(), torch.randn(2, 1, SIDE, SIDE)
    y = x
    for block in network.get_submodule("blocks").children():
        convolution, norm, pool, relu = block.children()
        y = pool(relu(norm(convolution(y))))
    assert torch.allclose(network(x), y.flatten(1))


@pytest.mark.parametrize("size", [16, 17, 32])
def test_resnet12_features(size: int) -> None:
    assert ResNet12(channels=1, width=4)(torch.zeros(2, 1, size, size)).shape == (2, 40)


def test_resnet12_is_the_network_of_the_papers() -> None:
    """Its widths; and pooling before the last LeakyReLU of a block is the same as after it."""
    names = dict(ResNet12(channels=3).named_parameters())
    wide = [(value.shape[0], name) for name, value in names.items() if value.ndim == 4 and "residual" in name]
    assert [width for width, _ in wide] == [64] * 3 + [160] * 3 + [320] * 3 + [640] * 3
    assert names["blocks.0.residual.0.weight"].shape == (64, 3, 3, 3)
    assert names["blocks.3.shortcut.0.weight"].shape == (640, 320, 1, 1)
    assert not any("bias" in name for name, value in names.items() if value.ndim == 4)
    assert (
        sum(value.numel() for value in names.values()) == 12_424_320
    )  # MetaOptNet's, without its classifier

    network, x = randomised(ResNet12(width=4)), torch.randn(2, 3, 33, 33)
    y = x
    for block in network.get_submodule("blocks").children():
        y = block.get_submodule("residual")(y) + block.get_submodule("shortcut")(y)
        y = nn.functional.max_pool2d(nn.functional.leaky_relu(y, 0.1), 2)
    assert torch.allclose(network(x), nn.functional.adaptive_avg_pool2d(y, 1).flatten(1), atol=1e-6)


def test_resnet12_frozen_is_resnet12_with_batch_norms_in_evaluation_mode() -> None:
    network = ResNet12(width=4, frozen=False)
    network(torch.randn(8, 3, SIDE, SIDE))  # moves the statistics
    x = torch.randn(2, 3, SIDE, SIDE)
    frozen = ResNet12(width=4)
    frozen.load_state_dict({k: v for k, v in network.state_dict().items() if "tracked" not in k})
    assert torch.allclose(frozen(x), network.eval()(x), atol=1e-5)


# ---------------------------------------------------------------------------------------- fingerprint


def test_fingerprint_sees_every_weight_and_buffer() -> None:
    network = tiny_conv4()
    expected = fingerprint(network)
    for name, value in network.state_dict().items():
        kept = value.clone()
        value.view(-1)[-1] += 1e-3
        assert fingerprint(network) != expected, name
        value.copy_(kept)
    assert fingerprint(network) == expected == fingerprint(tiny_conv4())


def test_fingerprint_sees_names_shapes_and_dtypes() -> None:
    class Holder(nn.Module):
        def __init__(self, **values: torch.Tensor) -> None:
            super().__init__()
            for name, value in values.items():
                self.register_buffer(name, value)

    variants = [
        Holder(a=torch.zeros(4)),
        Holder(b=torch.zeros(4)),
        Holder(a=torch.zeros(2, 2)),
        Holder(a=torch.zeros(4, dtype=torch.float64)),
        Holder(a=torch.zeros(4, dtype=torch.int32)),
        Holder(a=torch.zeros(4, dtype=torch.bfloat16)),
        Holder(a=torch.zeros(4), b=torch.zeros(0)),
        Holder(a=torch.tensor(0.0)),
    ]
    assert len({fingerprint(holder) for holder in variants}) == len(variants)


def test_fingerprint_ignores_memory_layout_and_mode() -> None:
    network = tiny_conv4()
    expected = fingerprint(network)
    assert fingerprint(network.to(memory_format=torch.channels_last)) == expected  # type: ignore[call-overload]
    assert fingerprint(network.train().requires_grad_(True)) == expected


# -------------------------------------------------------------------------------------------- on disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "small", {"seed": 3})
    return tmp_path / "small"


def test_round_trip(folder: Path) -> None:
    network, info = load_backbone(folder)
    assert (info.name, info.architecture, info.arguments) == ("small", "conv4", {"width": 4})
    assert info.input_shape == (1, SIDE, SIDE)
    assert info.training == {"seed": 3}
    assert info.fingerprint == fingerprint(network) == fingerprint(tiny_conv4())
    assert not network.training
    written = json.loads((folder / "backbone.json").read_text())["tensors"]["file"]
    assert sorted(path.name for path in folder.iterdir()) == [written, "backbone.json"]


def edit(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "backbone.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def truncate(folder: Path) -> None:
    path = tensors_in(folder)
    path.write_bytes(path.read_bytes()[:-40])


def test_group_norms_after_frozen_convolutions_have_gradients() -> None:
    """With channels last, torch ends the process in this gradient on CPU."""
    made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = frozen(made)
    seen = network[0](torch.rand(2, 3, 6, 6))
    assert seen.is_contiguous() and not seen.is_contiguous(memory_format=torch.channels_last)
    shift = torch.zeros(8, requires_grad=True)
    out = torch.func.functional_call(network, {"1.bias": shift}, (torch.rand(2, 3, 6, 6),))
    (gradient,) = torch.autograd.grad(out.sum(), shift)
    torch.testing.assert_close(gradient, torch.full((8,), 2.0 * 4 * 4))


def flip_a_bit(folder: Path) -> None:
    path = tensors_in(folder)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda f: tensors_in(f).unlink(), r"safetensors does not exist"),
    "no json": (lambda f: (f / "backbone.json").unlink(), r"backbone.json does not exist"),
    "weights cut": (truncate, r"not a readable safetensors file .* damaged"),
    "weights empty": (lambda f: tensors_in(f).write_bytes(b""), r"not a readable safetensors"),
    "weights of text": (lambda f: tensors_in(f).write_text("hello"), r"not a readable"),
    "one bit flipped": (flip_a_bit, r"is damaged: its sha256 is .* backbone.json was written for"),
    "json cut": (lambda f: (f / "backbone.json").write_text('{"name": '), r"not valid JSON .* damaged"),
    "json of bytes": (lambda f: (f / "backbone.json").write_bytes(b"\xff\xfe\x00"), r"not valid JSON"),
    "json a list": (lambda f: (f / "backbone.json").write_text("[]"), r"holds list, not a JSON object"),
    "other fingerprint": (edit(fingerprint="0" * 64), r"not those its backbone.json was written for"),
    "unknown architecture": (
        edit(architecture="resnet1202"),
        r"known backbone .*resnet1202.*known are conv4",
    ),
    "a list for it": (edit(architecture=["conv4"]), r"does not describe a known backbone"),
    "unknown argument": (edit(arguments={"depth": 9}), r"does not describe a known backbone .*depth"),
    "arguments no mapping": (edit(arguments=3), r"does not describe a known backbone"),
    "negative width": (edit(arguments={"width": -4}), r"does not describe a known backbone"),
    "other width": (edit(arguments={"width": 8}), r"do not fit conv4"),
    "unknown field": (edit(colour="red"), r"does not describe a known backbone .*colour"),
    "no input shape": (edit(input_shape=None), r"does not describe a known backbone"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(AdaptError, match=message):
        load_backbone(folder)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(
        AdaptError, match=r"'no_such_backbone' is neither a folder nor a shipped artifact: .*one of"
    ):
        load_backbone("no_such_backbone")
    with pytest.raises(AdaptError, match=r"backbone.architecture=vgg is not known: choose conv4"):
        untrained("vgg")


def test_untrained_has_batch_statistics() -> None:
    network, info = untrained("conv4", width=4)
    assert info.input_shape is None  # nothing was trained: it takes what its layers take
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert info.arguments == {"width": 4}
    assert info.fingerprint == fingerprint(network)


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    save_backbone(
        tmp_path / "tied", network, architecture="tied", arguments={}, input_shape=(2,), training={}
    )
    assert tensors_in(tmp_path / "tied").is_file()
