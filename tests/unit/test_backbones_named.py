"""Backbones of other libraries by their name: tiny ones, random weights, no network needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from adapt import AdaptError
from adapt.backbones import fingerprint, info_of, load_backbone, own, require
from adapt.forward import pushforward
from adapt.forward.preflight import preflight
from adapt.spaces import film
from tests.helpers import distance

RANDOM = {"weights": "random"}
#: What is tried on every kind: small, on images of 3×40×36 (or grey 20×20).
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "mobilenet": ("timm:mobilenetv2_050", {"size": 32}, 3),
    "mobilenet, grey": ("timm:mobilenetv2_050", {"size": 32, "in_chans": 1, "pad_type": "same"}, 3),
    "efficientnet lite": ("timm:tf_efficientnet_lite0", {"size": 32}, 3),
    "vit": ("timm:vit_tiny_patch16_224", {"size": 32, "depth": 2}, 3),
    "vit with prompts": ("timm:vit_tiny_patch16_224", {"size": 32, "depth": 2, "prompts": 2}, 1),
    "vit, mean": ("timm:vit_tiny_patch16_224", {"size": 32, "depth": 2, "pooling": "avg"}, 3),
    "resnet18": ("torchvision:resnet18", {"size": 32}, 3),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "settings", "channels"), NETWORKS.values(), ids=NETWORKS.keys())
def test_a_named_network_is_a_backbone(name: str, settings: dict[str, Any], channels: int) -> None:
    before = torch.random.get_rng_state()
    network, info = load_backbone(name, **RANDOM, **settings)
    assert torch.equal(torch.random.get_rng_state(), before), "it disturbs the caller's random numbers"
    assert info_of(network) is info and info.fingerprint == fingerprint(network)
    assert (info.name, info.settings, info.input_shape) == (name, RANDOM | settings, None)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())

    x = noise(3, channels, 40, 36)
    together = network(x)
    assert together.ndim == 2 and together.isfinite().all() and together.std() > 0
    assert distance(together, torch.cat([network(x[i : i + 1]) for i in range(3)])) <= 1e-4
    tasks = torch.stack([x, x.flip(0)])
    assert distance(vmap(network)(tasks), torch.stack([network(task) for task in tasks])) <= 1e-4
    space = film(network)
    preflight(network, x, [*space.shapes]).raise_if_blocked()

    network, x = network.double(), x.double()
    start = space.initial.double()
    tangents = torch.randn(2, space.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def features(phi: Tensor) -> Tensor:
        return functional_call(network, space.parameters(phi), (x,))

    value, pull = vjp(features, start)  # by another road: uᵀ(Jv) = (uᵀJ)v
    columns = pushforward(features, start, tangents)[1]
    for seed in range(3):
        u = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert distance((columns * u).sum((1, 2)), tangents @ pull(u)[0]) <= 1e-9


def test_features_are_those_of_the_library() -> None:
    """The whole way by hand: scaled, normalised with the numbers of the model card, no classifier."""
    timm = require("timm")
    network, _ = load_backbone("timm:mobilenetv2_050", weights="random", seed=3, size=32)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        plain = timm.create_model("mobilenetv2_050", num_classes=0).eval()
    x = noise(2, 3, 32, 32)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    assert torch.allclose(network(x), plain((x - mean) / std), atol=1e-4)
    other = load_backbone("timm:mobilenetv2_050", weights="random", seed=4, size=32)[1]
    assert other.fingerprint != fingerprint(network)


def test_torchvision_features_are_those_before_the_classifier() -> None:
    models = require("torchvision.models")
    network, _ = load_backbone(
        "torchvision:resnet18", weights="random", seed=1, mean=[0.0], std=[1.0], size=32
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain = models.resnet18().eval()
    plain.fc = nn.Identity()
    x = noise(2, 3, 32, 32)
    assert torch.allclose(network(x), plain(x), atol=1e-4)


# ------------------------------------------------------------------------------------------ weights


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return require("torchvision.models").shufflenet_v2_x0_5(num_classes=7).eval()


def load(path: Path, **settings: Any) -> nn.Module:
    return load_backbone("torchvision:shufflenet_v2_x0_5", weights=str(path), size=32, **settings)[0]


def test_weights_from_a_file(trained: nn.Module, tmp_path: Path) -> None:
    """With its classifier, which is not wanted, and in every format that holds tensors alone."""
    state = trained.state_dict()
    save_file(state, tmp_path / "it.safetensors")
    torch.save(state, tmp_path / "it.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "it.pt")
    for name in ("it.safetensors", "it.pth", "it.pt"):
        network = load(tmp_path / name)
        assert info_of(network).settings is None  # type: ignore[union-attr]
        own_state = network.state_dict()
        assert torch.equal(own_state["network.stage4.0.branch2.0.weight"], state["stage4.0.branch2.0.weight"])
        assert torch.equal(own_state["network.conv1.1.running_var"], state["conv1.1.running_var"])


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in names}


def test_weights_of_another_network_are_named(trained: nn.Module, tmp_path: Path) -> None:
    state, path = trained.state_dict(), tmp_path / "it.safetensors"
    cases = [
        (
            without(state, "conv1.0.weight", "conv1.1.bias"),
            r"lacks conv1\.0\.weight, conv1\.1\.bias: it was not made for ShuffleNet",
        ),
        (state | {"neck.weight": torch.ones(1)}, r"also holds neck\.weight: "),
        (
            state | {"conv1.0.weight": torch.ones(24, 1, 3, 3)},
            r"other shapes: conv1\.0\.weight \(24, 1, 3, 3\) for",
        ),
    ]
    for wrong, message in cases:
        save_file(wrong, path)
        with pytest.raises(AdaptError, match=message):
            load(path)


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "module.pt")
    torch.save({"lr": 3}, tmp_path / "other.pt")
    (tmp_path / "noise.bin").write_bytes(b"not a zip")
    (tmp_path / "noise.safetensors").write_bytes(b"not one")
    for name, message in (
        ("module.pt", "cannot be read as tensors alone"),
        ("other.pt", "holds no state dict"),
        ("noise.bin", "cannot be read as tensors alone"),
        ("noise.safetensors", "not a readable safetensors file"),
        ("absent.pt", "absent.pt does not exist: give the path of a file, or pretrained or random"),
    ):
        with pytest.raises(AdaptError, match=message):
            load(tmp_path / name)


def test_weights_of_the_data_root_can_be_named_everywhere(
    trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    save_file(trained.state_dict(), tmp_path / "weights" / "it.safetensors")
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path))
    settings = {"weights": "data:weights/it.safetensors", "size": 32}
    assert load_backbone("torchvision:shufflenet_v2_x0_5", **settings)[1].settings == settings
    with pytest.raises(AdaptError, match=r"weights=data:none\.pt: .* set ADAPT_DATA to the folder"):
        load_backbone("torchvision:shufflenet_v2_x0_5", weights="data:none.pt")


@pytest.mark.parametrize(
    "name", ["timm:mobilenetv2_050", "hf:nobody/nothing", "torchvision:shufflenet_v2_x0_5"]
)
def test_without_a_network_pretrained_weights_say_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require("huggingface_hub")
    import huggingface_hub.constants

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(AdaptError, match=rf"weights of {name} cannot be had .* weights=random"):
        load_backbone(name)


def test_mobilenet_of_the_data_root_knows_what_it_sees(data: Path) -> None:
    """Known answer: the classifier of the same file says which of ImageNet's classes an image is."""
    from safetensors.torch import load_file

    file = data / "weights" / "mobilenetv2_100_imagenet.safetensors"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    network, info = load_backbone(
        "timm:mobilenetv2_100",
        weights="data:weights/mobilenetv2_100_imagenet.safetensors",
        pad_type="same",
        mean=[0.5],
        std=[0.5],
        size=64,
    )
    plain = require("timm").create_model("mobilenetv2_100", pad_type="same").eval()
    plain.load_state_dict(load_file(file))
    x = noise(2, 3, 64, 64)
    features = plain.forward_head(plain.forward_features(2 * x - 1), pre_logits=True)
    assert torch.allclose(network(x), features, atol=1e-4)
    assert info.settings is not None and network(x).shape == (2, 1280)


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("timm:mobilenetv2_49", RANDOM, r"timm has no model 'mobilenetv2_49': .* for instance mobilenetv2_"),
        ("timm:mobilenetv2_050", {**RANDOM, "colour": 1}, r"does not take these settings: .*colour"),
        ("torchvision:resnet19", RANDOM, r"no image classifier 'resnet19': .* resnet18"),
        (
            "torchvision:shufflenet_v2_x0_5",
            {**RANDOM, "colour": 1},
            r"does not take these settings: .*colour",
        ),
        ("torchvision:shufflenet_v2_x0_5", {"seed": {1}, **RANDOM}, r"settings are no plain values"),
        ("mlp:1-4-1", {"seed": 1}, r"seed is not a setting of backbone 'mlp:1-4-1': it takes none"),
        ("hf:x", {"poolin": "cls"}, r"poolin is not a setting of backbone 'hf:x': did you mean pooling\?"),
        (
            "conv4_glyphs",
            {"size": 3},
            r"'conv4_glyphs' takes no size: settings are for names .*hf:, mlp:, rollout:, timm:",
        ),
        ("keras:resnet", {}, r"'keras:resnet' is neither a folder nor a shipped artifact"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        load_backbone(name, **settings)


# ------------------------------------------------------------------------------------------ one's own


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten())

    made = build()
    save_file(made.state_dict(), tmp_path / "it.safetensors")
    network, info = own(build(), str(tmp_path / "it.safetensors"), [1, 4, 4])
    x = noise(2, 1, 4, 4)
    assert torch.allclose(network(x), made.eval()(x), atol=1e-6)
    assert (info.name, info.architecture, info.input_shape) == ("Sequential", "own", (1, 4, 4))
    assert info.settings is None and info_of(network) is info and not network.training
    with pytest.raises(AdaptError, match=r"lacks 0\.weight, 0\.bias: it was not made for Sequential"):
        own(nn.Sequential(nn.Linear(1, 1)), str(save_empty(tmp_path)))


def save_empty(folder: Path) -> Path:
    save_file({}, folder / "empty.safetensors")
    return folder / "empty.safetensors"
