"""Backbones on disk: ``backbone.json`` (architecture, provenance, metrics) beside
``backbone-<hash>.safetensors`` (weights)."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from adapt.artifact import TENSORS, Layout, publish, read
from adapt.backbones.conv4 import Conv4
from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.frozen import frozen
from adapt.backbones.info import BackboneInfo, remember
from adapt.backbones.named import FAMILIES, load_named
from adapt.backbones.resnet12 import ResNet12
from adapt.backbones.vit import ViT
from adapt.budget import TooLarge, counted, declared
from adapt.errors import AdaptError
from adapt.files import shipped

__all__ = ["ARCHITECTURES", "load_backbone", "save_backbone", "untrained"]

LAYOUT = Layout("backbone.json", "backbone")
#: Networks that a saved backbone may name.
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"conv4": Conv4, "resnet12": ResNet12, "vit": ViT}


def save_backbone(
    folder: str | os.PathLike[str],
    backbone: nn.Module,
    *,
    architecture: str,
    arguments: Mapping[str, Any],
    input_shape: tuple[int, ...],
    training: Mapping[str, Any],
    value_range: tuple[float, float] | None = None,
) -> BackboneInfo:
    """Write ``backbone`` (its batch norms frozen) to ``folder``, whose last part becomes its name;
    ``value_range`` is that of the examples that it was trained on, where it is known."""
    folder = Path(folder)
    info = BackboneInfo(
        folder.name,
        architecture,
        dict(arguments),
        tuple(input_shape),
        fingerprint(backbone),
        dict(training),
        settings=None,
        value_range=value_range,
    )
    described = {key: value for key, value in vars(info).items() if key not in ("settings", "input_dtype")}
    publish(folder, LAYOUT, {**described, "input_shape": list(input_shape)}, backbone.state_dict())
    return info


def load_backbone(name: str | os.PathLike[str], **settings: Any) -> tuple[nn.Module, BackboneInfo]:
    """The frozen network, in evaluation mode, by its name.

    ======================================  ==========================================================
    ``conv4_glyphs``                        ships with the package
    ``my/folder``                           with ``backbone.json``, as :func:`save_backbone` writes it
    ``mlp:1-40-40-1``, ``mlp:6-64-3:tanh``  a multilayer perceptron, initialised by its name
    ``rollout:2-64-64-2:tanh``              a vector field followed through time, see
                                            ``adapt/backbones/rollout.py``
    ``columns:4``                           a table's columns, see ``adapt/backbones/columns.py``
    ``timm:mobilenetv2_100``                see ``adapt/backbones/from_timm.py``
    ``torchvision:resnet18``                see ``adapt/backbones/from_torchvision.py``
    ``hf:bert-base-uncased``, ``hf:minilm`` see ``adapt/backbones/from_transformers.py``
    ======================================  ==========================================================

    Args:
        name: as above.
        settings: of the network, for the libraries' names: ``weights``, ``size``, ``pooling``, …

    Raises:
        AdaptError: unknown name or setting, damaged file, weights that cannot be had or are not those that
            the JSON describes.

    Example:
        >>> backbone, info = load_backbone("conv4_glyphs")
        >>> info.input_shape
        (1, 32, 32)
    """
    family, _, rest = str(name).partition(":")
    if rest and family in FAMILIES:
        return load_named(family, rest, settings)
    if settings:
        raise AdaptError(
            f"backbone '{name}' takes no {', '.join(settings)}: settings are for names that begin with "
            f"{', '.join(f'{family}:' for family in FAMILIES)}"
        )
    folder = shipped(name)
    config, tensors = read(folder, LAYOUT)
    config.pop(TENSORS, None)
    try:
        # What ships is found by its name everywhere, a folder is not.
        again: dict[str, Any] = {"settings": None if Path(name).is_dir() else {}}
        if config.get("value_range") is not None:  # files of earlier versions do not say
            low, high = config["value_range"]
            again["value_range"] = (float(low), float(high))
        info = BackboneInfo(**{**config, "input_shape": tuple(config["input_shape"]), **again})
        # A network has the numbers that the file holds of it, and no others.
        with (
            declared(sum(tensor.numel() for tensor in tensors.values())),
            counted(f"the backbone in {folder}"),
        ):
            backbone = ARCHITECTURES[info.architecture](**info.arguments)
    except TooLarge:
        raise AdaptError(
            f"the weights in {folder} do not fit {info.architecture}: they are fewer than it has as described"
        ) from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise AdaptError(
            f"{folder / 'backbone.json'} does not describe a known backbone ({error}): known are "
            f"{', '.join(ARCHITECTURES)}"
        ) from None
    try:
        backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise AdaptError(f"the weights in {folder} do not fit {info.architecture}: {error}") from None
    if fingerprint(backbone) != info.fingerprint:
        raise AdaptError(
            f"the weights in {folder} are not those its backbone.json was written for: one of the "
            "two files was replaced"
        )
    return remember(frozen(backbone), info), info


def untrained(architecture: str, **arguments: Any) -> tuple[nn.Module, BackboneInfo]:
    """A randomly initialised network of :data:`ARCHITECTURES`, with batch statistics, as pretraining starts
    from it.

    Raises:
        AdaptError: unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise AdaptError(
            f"backbone.architecture={architecture} is not known: choose {', '.join(ARCHITECTURES)}"
        )
    with counted(f"backbone.architecture={architecture}"):
        backbone = ARCHITECTURES[architecture](**arguments, frozen=False)
    info = BackboneInfo(architecture, architecture, arguments, None, fingerprint(backbone), settings=None)
    return remember(backbone, info), info
