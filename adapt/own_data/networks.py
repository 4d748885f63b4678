"""Which pretrained network reads data of a kind: the best that is there.

A new one is one entry of :data:`NETWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from adapt.adapter.state import AdapterState
from adapt.backbones import load_backbone
from adapt.errors import AdaptError
from adapt.spaces import Space, film, full

__all__ = ["LENGTHS", "NETWORKS", "WAVES", "Network", "Recipe", "network_for"]


@dataclass(frozen=True)
class Recipe:
    """How a network is made.

    Args:
        title: for people.
        name, settings: of :func:`adapt.backbones.load_backbone`.
        space: what of it may move.
        size, channels: of the pictures that it reads.
        weak: why it is a makeshift.
        start: the shipped adapter that says from where it is adapted on many domains; "": there is none.
    """

    title: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    space: Callable[[nn.Module], Space] = film
    size: int = 0
    channels: int = 3
    weak: str = ""
    start: str = ""


@dataclass(frozen=True)
class Network:
    """A network that is there, a line that says which and why, and from where it is adapted: as it is, or
    what moves and where it starts, a ``share`` of the way to what was learned on many domains."""

    recipe: Recipe
    module: nn.Module
    name: str
    input_shape: tuple[int, ...] | None
    line: str
    start: tuple[Space, AdapterState] | None = None
    share: float = 0.0

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.recipe.title}, {self.begins}" if self.share else self.recipe.title

    @property
    def begins(self) -> str:
        """From where it is adapted, for people."""
        return f"{self.share:.0%} of the way to {self.recipe.start}" if self.share else "the network as it is"

    @property
    def space(self) -> Space:
        """What may move."""
        return self.recipe.space(self.module) if self.start is None else self.start[0]

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is not as the module has it."""
        return {} if self.start is None else self.start[0].parameters(self.start[1].origin)


#: Waves and lengths that are tried for a table, besides its plain columns.
WAVES, LENGTHS = 256, (0.5, 1.0, 2.0)
#: Kind of data → networks, the best first.
NETWORKS: dict[str, tuple[Recipe, ...]] = {
    "pictures": (
        Recipe(
            "EfficientNet-Lite0, trained on ImageNet",
            "timm:tf_efficientnet_lite0",
            {"weights": "package:efficientnet_lite0", "size": 128},
            lambda network: film(network, skip=33),
            size=128,
            start="efficientnet_lite0_start",
        ),
        Recipe(
            "MobileNetV2, trained on ImageNet",
            "timm:mobilenetv2_100",
            {
                "weights": "data:weights/mobilenetv2_100_imagenet.safetensors",
                "pad_type": "same",
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "size": 128,
            },
            lambda network: film(network, skip=36),
            size=128,
        ),
        Recipe(
            "Conv4, trained on printed characters",
            "conv4_glyphs",
            size=32,
            channels=1,
            weak="it knows no photographs",
        ),
    ),
    "texts": (
        Recipe(
            "all-MiniLM-L6-v2, trained on pairs of sentences",
            "hf:minilm",
            {"max_tokens": 128},
            lambda network: film(network, skip=9),
        ),
    ),
}


def network_for(kind: str, backbone: str | None = None) -> Network:
    """The first network of a kind that is there, or the one that is named.

    Raises:
        AdaptError: none is there; says what to install.
    """
    recipes = NETWORKS[kind]
    if backbone is not None:
        recipes = tuple(
            recipe for recipe in recipes if backbone in (recipe.name, recipe.name.rpartition(":")[2])
        )
        recipes = tuple(replace(recipe, start="") for recipe in recipes)  # named: that network, as it is
        if not recipes:
            known = ", ".join(recipe.name.rpartition(":")[2] for recipe in NETWORKS[kind])
            raise AdaptError(f"backbone={backbone} is not known for {kind}: use one of {known}")
    missing: list[str] = []
    for recipe in recipes:
        try:
            module, info = load_backbone(recipe.name, **recipe.settings)
        except AdaptError as error:
            missing.append(f"{recipe.title}: {error}")
            continue
        line = f"network: {recipe.title}"
        if recipe.weak:
            line += f"; {recipe.weak}"
        if missing:  # the best of them comes first, and its error says what to do
            line += f" (better, but not to be had: {missing[0]})"
        return Network(recipe, module, info.name, info.input_shape, line)
    raise AdaptError(f"no network for {kind} is there ({'; '.join(missing)})")


def network_of_columns(columns: int, waves: int = 0, length: float = 1.0) -> Network:
    """For rows of a table: its columns themselves, or waves over them."""
    settings = {"waves": waves, "length": length} if waves else {}
    module, info = load_backbone(f"columns:{columns}", **settings)
    title = (
        f"{columns} columns"
        if not waves
        else f"{waves} random waves over {columns} columns, of length {length:g}"
    )
    recipe = Recipe(title, info.name, settings, full)
    return Network(recipe, module, info.name, info.input_shape, f"features: {title}")
