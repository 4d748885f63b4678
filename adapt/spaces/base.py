"""The contract of a space: what may move, as one vector φ, and the backbone's tensors that φ stands for."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from adapt.backbones.structure import check_structure
from adapt.errors import AdaptError
from adapt.precision import full_precision, wide

__all__ = ["Merge", "Space", "named", "one_dtype", "select"]

#: Own tensors of a space → the backbone's tensors that they make: pure, differentiable, vmappable.
Merge = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Space:
    """Adaptable tensors, seen as one vector φ of ``size`` numbers.

    They are parameters of the backbone themselves (FiLM, biases), or tensors of the space's own from which
    ``merge`` makes parameters of the backbone (the factors of LoRA). The space never writes to the backbone:
    adapted values reach the network only through ``torch.func.functional_call(backbone,
    space.parameters(phi), x)``. It copies the initial values. The frozen weights that a merge adds to are the
    backbone's own, which are not copied: a merging space belongs to the backbone it was made for, and goes to
    another device with it.

    Attributes:
        name: of the space, as saved adapters record it.
        shapes: of every adaptable tensor, by its name: that in ``backbone.named_parameters()``, or the
            space's own.
        initial: φ₀ ``[size]``, at which the network computes what the backbone computes; float32 at least,
            whatever the backbone is (``adapt.backbones.call`` converts what it is given).
        settings: what the function of this name was called with (JSON), from which a saved adapter makes the
            space again; None = it is remembered by the names of its tensors.
        merge: own tensors → tensors of the backbone; None = they are tensors of the backbone.
        left_out: parameters of the backbone that may be of the kind that this space moves, but do not move in
            it: their role cannot be told, or they hold whole numbers, or belong to a batch norm that is not
            frozen. To move them too, name them (:func:`named`), combined with this space.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    initial: Tensor
    settings: Mapping[str, Any] | None = None
    merge: Merge | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "initial", wide(self.initial))

    @property
    def size(self) -> int:
        """Number of adaptable parameters P."""
        return self.initial.numel()

    def tensors(self, phi: Tensor) -> dict[str, Tensor]:
        """The adaptable tensors in φ ``[P]``, by name, shaped as in ``shapes``; differentiable, vmappable.

        Each has memory of its own, as parameters have: a module that reads the memory of one of them
        (``as_strided``, a kernel of its own) must not find the others there.
        """
        pieces = phi.split([prod(shape) for shape in self.shapes.values()])
        return {
            name: piece.view(shape).clone()
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    @full_precision
    def merged(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The backbone's tensors, by name, that the adaptable ``tensors`` stand for."""
        return dict(tensors) if self.merge is None else self.merge(tensors)

    def parameters(self, phi: Tensor) -> dict[str, Tensor]:
        """The backbone's tensors that φ ``[P]`` stands for, by name; differentiable and vmappable."""
        return self.merged(self.tensors(phi))


def named(
    name: str,
    backbone: nn.Module,
    parameters: Collection[str],
    settings: Mapping[str, Any] | None = None,
) -> Space:
    """The space of the parameters of ``backbone`` with the given names, in the backbone's order.

    Raises:
        AdaptError: a name that the backbone does not have, or parameters that cannot be one vector of real
            numbers.
    """
    check_structure(backbone)
    # A tied parameter appears once, under its first name.
    chosen = {key: value.detach() for key, value in backbone.named_parameters() if key in parameters}
    if missing := sorted(set(parameters) - set(chosen)):
        raise AdaptError(
            f"space '{name}' adapts {missing[0]}, which {type(backbone).__name__} does not have: "
            "it was made for another backbone"
        )
    if not chosen:
        raise AdaptError(f"space '{name}' has no parameters: name those of {type(backbone).__name__}")
    one_dtype(name, chosen)
    initial = torch.cat([value.reshape(-1) for value in chosen.values()])  # copies: φ₀ is no alias
    return Space(name, {key: tuple(value.shape) for key, value in chosen.items()}, initial, settings)


def select(
    name: str,
    backbone: nn.Module,
    wanted: Callable[[nn.Module, str], bool],
    remedy: str,
    settings: Mapping[str, Any],
    perhaps: Callable[[nn.Module, str], bool] = lambda *_: False,
) -> Space:
    """The space of all parameters for which ``wanted(owner module, local name)`` holds, and that hold real
    numbers; those for which ``perhaps`` holds, and that do not move, are said to be left out.

    Raises:
        AdaptError: the backbone has no such parameter; ``remedy`` says what to do.
    """
    check_structure(backbone)
    first_name = {parameter: key for key, parameter in backbone.named_parameters()}
    tensors = [
        (module, local, first_name[parameter])
        for module in backbone.modules()
        for local, parameter in module.named_parameters(recurse=False)
    ]
    asked = {name for module, local, name in tensors if wanted(module, local)}
    parameters = dict(backbone.named_parameters())
    chosen = [name for name in parameters if name in asked and parameters[name].is_floating_point()]
    unsure = {name for module, local, name in tensors if perhaps(module, local)} | asked
    left = tuple(name for name in parameters if name in unsure and name not in chosen)
    if not chosen:
        raise AdaptError(f"space '{name}' finds nothing to adapt in {type(backbone).__name__}: {remedy}")
    return replace(named(name, backbone, chosen, settings), left_out=left)


def one_dtype(space: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that cannot be parts of one vector of real numbers.

    Raises:
        AdaptError: different dtypes, or one that is not floating-point.
    """
    first = next(iter(tensors), "")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise AdaptError(
                f"space '{space}' would move {name}, which is {tensor.dtype}: only real numbers can move"
            )
        if tensor.dtype != tensors[first].dtype:
            raise AdaptError(
                f"space '{space}' would move {first} ({tensors[first].dtype}) and {name} ({tensor.dtype}), "
                "which cannot be one vector: convert the backbone, for instance with backbone.float(), or "
                "move fewer"
            )
