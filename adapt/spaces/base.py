"""The contract of a space: names the adaptable tensors of a backbone and maps a vector φ to them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from adapt.errors import AdaptError

__all__ = ["Space", "select"]


@dataclass(frozen=True)
class Space:
    """Adaptable tensors of a backbone, seen as one vector φ of ``size`` numbers.

    It copies the initial values and never writes to the backbone: adapted values reach the network only
    through ``torch.func.functional_call(backbone, space.parameters(phi), x)``.

    Attributes:
        name: of the space, as saved adapters record it.
        shapes: of every adaptable tensor, by its name in ``backbone.named_parameters()``.
        initial: φ₀ = the backbone's own values ``[size]``.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    initial: Tensor

    @property
    def size(self) -> int:
        """Number of adaptable parameters P."""
        return self.initial.numel()

    def parameters(self, phi: Tensor) -> dict[str, Tensor]:
        """The tensors that φ ``[P]`` stands for, by name; differentiable and vmappable."""
        pieces = phi.split([prod(shape) for shape in self.shapes.values()])
        return {
            name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }


def select(name: str, backbone: nn.Module, wanted: Callable[[nn.Module, str], bool], remedy: str) -> Space:
    """The space of all parameters for which ``wanted(owner module, local name)`` holds.

    Raises:
        AdaptError: the backbone has no such parameter; ``remedy`` says what to do.
    """
    names = {
        parameter: name for name, parameter in backbone.named_parameters()
    }  # a tied parameter once, under its first name
    chosen = {
        names[parameter]: parameter.detach()
        for module in backbone.modules()
        for local, parameter in module.named_parameters(recurse=False)
        if wanted(module, local)
    }
    if not chosen:
        raise AdaptError(f"space '{name}' finds nothing to adapt in {type(backbone).__name__}: {remedy}")
    initial = torch.cat(
        [value.reshape(-1) for value in chosen.values()]
    )  # cat copies: φ₀ never aliases the backbone
    return Space(name, {key: tuple(value.shape) for key, value in chosen.items()}, initial)
