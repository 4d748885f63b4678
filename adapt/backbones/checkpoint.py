"""Backbones on disk: ``backbone.json`` (architecture, provenance, metrics) beside ``backbone.safetensors``
(weights)."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adapt.backbones.conv4 import Conv4
from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.mlp import Mlp
from adapt.backbones.resnet12 import ResNet12
from adapt.errors import AdaptError
from adapt.files import read_json, read_tensors, shipped, write_json, write_tensors

__all__ = ["ARCHITECTURES", "BackboneInfo", "load_backbone", "save_backbone", "untrained"]

#: Networks that a saved backbone may name.
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"conv4": Conv4, "resnet12": ResNet12}
#: Names that start so describe a network completely.
MLP = "mlp:"


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a saved backbone.

    Attributes:
        name: under which adapters refer to it.
        architecture: a key of :data:`ARCHITECTURES`, and ``arguments`` its keyword arguments.
        input_shape: of one example; None: the network checks for itself.
        fingerprint: of the weights.
        training: how it was made: config, seed, data digest, metrics (free form, JSON).
    """

    name: str
    architecture: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...] | None
    fingerprint: str
    training: Mapping[str, Any] = field(default_factory=dict)


def save_backbone(
    folder: str | os.PathLike[str],
    backbone: nn.Module,
    *,
    architecture: str,
    arguments: Mapping[str, Any],
    input_shape: tuple[int, ...],
    training: Mapping[str, Any],
) -> BackboneInfo:
    """Write ``backbone`` (its batch norms frozen) to ``folder``, whose last part becomes its name."""
    folder = Path(folder)
    info = BackboneInfo(
        folder.name, architecture, dict(arguments), tuple(input_shape), fingerprint(backbone), dict(training)
    )
    write_tensors(folder / "backbone.safetensors", backbone.state_dict())
    write_json(folder / "backbone.json", {**vars(info), "input_shape": list(input_shape)})
    return info


def load_backbone(name: str | os.PathLike[str]) -> tuple[nn.Module, BackboneInfo]:
    """The frozen network, in evaluation mode, from a folder or a shipped name, or built from its name:
    ``mlp:1-40-40-1``, ``mlp:6-64-64-3:tanh``.

    Raises:
        AdaptError: unknown name, damaged file, or weights that are not those the JSON describes.

    Example:
        >>> backbone, info = load_backbone("conv4_glyphs")
        >>> info.input_shape
        (1, 32, 32)
    """
    if str(name).startswith(MLP):
        return _mlp(str(name))
    folder = shipped(name)
    config = read_json(folder / "backbone.json")
    try:
        info = BackboneInfo(**{**config, "input_shape": tuple(config["input_shape"])})
        backbone = ARCHITECTURES[info.architecture](**info.arguments)
    except (KeyError, TypeError, RuntimeError) as error:
        raise AdaptError(
            f"{folder / 'backbone.json'} does not describe a known backbone ({error}): known are "
            f"{', '.join(ARCHITECTURES)}"
        ) from None
    try:
        backbone.load_state_dict(read_tensors(folder / "backbone.safetensors"))
    except RuntimeError as error:
        raise AdaptError(f"the weights in {folder} do not fit {info.architecture}: {error}") from None
    if fingerprint(backbone) != info.fingerprint:
        raise AdaptError(
            f"the weights in {folder} are not those its backbone.json was written for: one of the "
            "two files was replaced"
        )
    # Convolutions are faster with channels last, on CPU nearly twice; values and fingerprint are the same.
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return backbone.eval().requires_grad_(False), info


def _mlp(name: str) -> tuple[nn.Module, BackboneInfo]:
    sizes, _, activation = name.removeprefix(MLP).partition(":")
    try:
        layers = tuple(int(size) for size in sizes.split("-"))
    except ValueError:
        raise AdaptError(f"backbone '{name}': write the layers' sizes as in mlp:1-40-40-1") from None
    network = Mlp(layers, activation or "relu")
    arguments = {"sizes": list(layers), "activation": activation or "relu"}
    info = BackboneInfo(name, "mlp", arguments, (layers[0],), fingerprint(network))
    return network.eval().requires_grad_(False), info


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
    backbone = ARCHITECTURES[architecture](**arguments, frozen=False)
    return backbone, BackboneInfo(architecture, architecture, arguments, (), fingerprint(backbone))
