"""The parts of an adapter of a network that nothing was meta-trained for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from adapt.adapter.state import layered_state
from adapt.backbones import load_backbone, ready
from adapt.errors import AdaptError
from adapt.heads import Ridge
from adapt.inner import SquaredError
from adapt.spaces import Space, default_space

__all__ = ["PARTS", "for_values", "untrained"]

#: Directions along which it moves: no more is known of a network than its layers.
PARTS = 8


def untrained(
    network: nn.Module | str,
    space: Space | Callable[[nn.Module], Space] | None,
    regression: bool,
    input_shape: Sequence[int] | None,
    value_range: Sequence[float] | None,
) -> Mapping[str, Any]:
    """Attributes of the adapter that :meth:`adapt.FewShotAdapter.of` makes."""
    if isinstance(network, str):
        network = load_backbone(network)[0]
    backbone, info = ready(network, input_shape, None, value_range)
    if space is not None and not isinstance(space, Space) and not callable(space):
        raise AdaptError(
            f"space={space!r} is no space: pass a function of adapt.spaces, such as adapt.spaces.film"
        )
    found = space if isinstance(space, Space) else (space or default_space)(backbone)
    if not isinstance(found, Space):
        raise AdaptError(f"space makes a {type(found).__name__}: pass a space, such as adapt.spaces.film")
    return {
        "backbone": backbone,
        "space": found,
        "state": layered_state(found, PARTS),
        "input_shape": info.input_shape,
        "backbone_name": info.name,
        **(for_values() if regression else {}),
    }


def for_values() -> dict[str, Any]:
    """What replaces heads and loss where tasks are to predict values."""
    return {"head": Ridge(scale=1.0), "support_head": Ridge(scale=1.0), "loss": SquaredError()}
