"""The contract of a space: names the adaptable tensors of a backbone and maps a vector φ to them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from adapt.errors import AdaptError

__all__ = ["Space", "named", "select"]


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


def named(name: str, backbone: nn.Module, parameters: Collection[str]) -> Space:
    """The space of the parameters of ``backbone`` with the given names, in the backbone's order.

    Raises:
        AdaptError: a name that the backbone does not have.
    """
    # A tied parameter appears once, under its first name.
    chosen = {key: value.detach() for key, value in backbone.named_parameters() if key in parameters}
    if missing := sorted(set(parameters) - set(chosen)):
        raise AdaptError(
            f"space '{name}' adapts {missing[0]}, which {type(backbone).__name__} does not have: "
            "it was made for another backbone"
        )
    initial = torch.cat([value.reshape(-1) for value in chosen.values()])  # copies: φ₀ is no alias
    return Space(name, {key: tuple(value.shape) for key, value in chosen.items()}, initial)


def select(name: str, backbone: nn.Module, wanted: Callable[[nn.Module, str], bool], remedy: str) -> Space:
    """The space of all parameters for which ``wanted(owner module, local name)`` holds.

    Raises:
        AdaptError: the backbone has no such parameter; ``remedy`` says what to do.
    """
    first_name = {parameter: key for key, parameter in backbone.named_parameters()}
    chosen = [
        first_name[parameter]
        for module in backbone.modules()
        for local, parameter in module.named_parameters(recurse=False)
        if wanted(module, local)
    ]
    if not chosen:
        raise AdaptError(f"space '{name}' finds nothing to adapt in {type(backbone).__name__}: {remedy}")
    return named(name, backbone, chosen)
