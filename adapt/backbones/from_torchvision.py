"""``torchvision:<name>``: the image classifiers of torchvision."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from adapt.backbones.arguments import SHARE, SIZE, Rule, flag, number
from adapt.backbones.built import Built
from adapt.backbones.images import Images
from adapt.backbones.libraries import require
from adapt.backbones.weights import PRETRAINED, RANDOM, drawn, is_local, load_file, pretrained
from adapt.checks import WIDTH, least, positive
from adapt.errors import AdaptError

__all__ = ["TORCHVISION", "from_torchvision"]

COUNT = number(least(1, ceiling=WIDTH))
#: Arguments of ``torchvision.models.get_model`` that may be set: what a network is made of.
TORCHVISION: Mapping[str, Rule] = {
    "image_size": number(SIZE),
    **dict.fromkeys(("dropout", "attention_dropout", "stochastic_depth_prob", "drop_rate"), SHARE),
    **dict.fromkeys(("num_classes", "groups", "width_per_group", "growth_rate", "num_init_features"), COUNT),
    **dict.fromkeys(("bn_size", "representation_size"), COUNT),
    **dict.fromkeys(("width_mult", "layer_scale"), number(positive())),
    **dict.fromkeys(("transform_input", "aux_logits", "init_weights", "memory_efficient"), flag),
    "zero_init_residual": flag,
}


def from_torchvision(
    name: str,
    *,
    weights: str = PRETRAINED,
    seed: int = 0,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **arguments: Any,
) -> Built:
    """A classifier of torchvision without its last layer, behind :class:`Images`.

    Args:
        name: as ``torchvision.models.list_models(torchvision.models)`` has it.
        weights: ``pretrained`` (the library's best), ``random`` (drawn from ``seed``), or a file.
        size: side of the images; None: what the weights were trained with.
        mean, std: None: those of the weights.
        arguments: others of ``torchvision.models.get_model``, for instance ``image_size=64`` for a
            transformer: those of :data:`TORCHVISION`.

    Raises:
        AdaptError: unknown name or argument, or weights that cannot be had.
    """
    models = require("torchvision.models")
    classifiers = models.list_models(module=models)
    if name not in classifiers:
        raise AdaptError(
            f"torchvision has no image classifier '{name}': torchvision.models.list_models() lists them, for "
            f"instance {', '.join(n for n in classifiers if n[:3] == name[:3]) or 'resnet18'}"
        )
    best = models.get_model_weights(name).DEFAULT
    download = weights == PRETRAINED
    with drawn(seed), pretrained(f"torchvision:{name}", download):
        try:
            network = models.get_model(name, weights=best if download else None, progress=False, **arguments)
        except TypeError as error:
            raise AdaptError(f"torchvision:{name} does not take these settings: {error}") from None
    classifier = _without_classifier(network)
    if weights not in (PRETRAINED, RANDOM):
        load_file(network, weights, ignored=[f"{classifier}.", "aux", "AuxLogits."])
    expected = best.transforms()
    side = size or arguments.get("image_size") or expected.crop_size[0]
    images = Images(network, size=side, mean=mean or expected.mean, std=std or expected.std)
    return Built(images, local=is_local(weights))


def _without_classifier(network: nn.Module) -> str:
    """Replace the last layer with weights, the one that tells classes apart, by the identity; its name."""
    name = [path for path, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return name
