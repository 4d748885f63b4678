"""Several spaces as one.

φ = (φ_1, …, φ_m) ,   the backbone's tensors are those of all parts
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.errors import AdaptError
from adapt.spaces.base import Space

__all__ = ["Parts", "combine", "combined"]


@dataclass(frozen=True)
class Parts:
    """The merge: each part's own."""

    spaces: tuple[Space, ...]

    def __call__(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of all parts."""
        merged: dict[str, Tensor] = {}
        for space in self.spaces:
            merged |= space.merged({name: own[name] for name in space.shapes})
        return merged


def combine(*spaces: Space) -> Space:
    """The space in which every one of ``spaces``, all of the same backbone, moves.

    Raises:
        AdaptError: fewer than two, or two that move the same tensor of the backbone, which could not tell
            whose value it has.

    Example:
        >>> from torch import nn
        >>> from adapt.spaces import film, lora
        >>> net = nn.Sequential(nn.Linear(8, 3), nn.LayerNorm(3))
        >>> both = combine(film(net), lora(net, rank=2))
        >>> both.name, both.size == film(net).size + lora(net, rank=2).size
        ('film+lora', True)
    """
    if len(spaces) < 2:
        raise AdaptError(f"space: {len(spaces)} space cannot be combined: give two or more")
    mover: dict[str, str] = {}
    for space in spaces:
        for tensor in space.parameters(space.initial):
            if tensor in mover:
                raise AdaptError(
                    f"space: '{mover[tensor]}' and '{space.name}' both move {tensor}: leave one of the two "
                    "out, or give them other targets"
                )
            mover[tensor] = space.name
    return Space(
        "+".join(space.name for space in spaces),
        {name: shape for space in spaces for name, shape in space.shapes.items()},
        torch.cat([space.initial for space in spaces]),
        None,
        Parts(spaces),
        tuple(dict.fromkeys(name for space in spaces for name in space.left_out if name not in mover)),
    )


def combined(backbone: nn.Module, parts: Sequence[Callable[[nn.Module], Space]]) -> Space:
    """:func:`combine` of what each of ``parts`` (``film``, a partial ``lora``, …) makes of ``backbone``; for
    configs."""
    return combine(*(part(backbone) for part in parts))
