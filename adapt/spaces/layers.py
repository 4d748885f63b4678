"""Linear maps of a network, chosen by name: what LoRA, IA³ and residual adapters adapt."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from adapt.backbones.structure import check_structure
from adapt.errors import AdaptError
from adapt.spaces.base import one_dtype
from adapt.spaces.roles import is_norm, is_vector, matrices

__all__ = ["Layer", "layers_of", "left_out", "patterns"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear map of a network.

    Attributes:
        name: of its module in the network, "" for the network itself; where a module has several matrices,
        with
            what it calls this one: ``attention.in_proj``, ``lstm.weight_ih_l0``.
        weight, bias: names of its parameters in the network; a tied one has its first name.
        parameter, shift: these parameters. They are the network's own objects, whose data moves to another
            device with it; while the network runs with other values, these keep theirs.
        transposed: the weight is stored ``[in, out]``, as in GPT-2, and not ``[out, in, *kernel]``.
        module: for its settings (kernel size, groups), never for its parameters.
        alone: whether it is all that its module multiplies by, as in a linear layer.
        shared: its bias is one with that of other layers, and not in ``bias``.
    """

    name: str
    weight: str
    parameter: nn.Parameter
    bias: str | None
    shift: nn.Parameter | None
    transposed: bool
    module: nn.Module
    alone: bool = True
    shared: bool = False

    def frozen(self, like: Tensor) -> Tensor:
        """The weight W₀, in the layout of the network, on the device of ``like``."""
        return _beside(self.parameter, like)

    def frozen_shift(self, like: Tensor) -> Tensor | None:
        """The bias b₀, on the device of ``like``; None if there is none."""
        return None if self.shift is None else _beside(self.shift, like)

    @property
    def outputs(self) -> int:
        """Rows of W."""
        return self.parameter.shape[1 if self.transposed else 0]

    @property
    def inputs(self) -> int:
        """Columns of W, flattened: inputs of a group times kernel."""
        return self.parameter.numel() // self.outputs

    def own(self, kind: str) -> str:
        """The name of a tensor that adapts this layer, as in ``encoder.query.lora_A``."""
        return f"{self.name}.{kind}" if self.name else kind


def layers_of(
    space: str, backbone: nn.Module, targets: str, admits: Callable[[Layer], bool] = lambda _: True
) -> list[Layer]:
    """The linear maps that ``admits`` and whose names match ``targets``: linear and convolution layers, the
    projections of attention, the weights of recurrent layers, and linear layers that torch does not know.

    Args:
        space: for messages.
        backbone: the network.
        targets: patterns as of file names, separated by commas: ``*query*,*value*``; each must match.

    Raises:
        AdaptError: a pattern that matches no such layer, no pattern at all, or weights of different dtypes.
    """
    check_structure(backbone)
    first = {parameter: key for key, parameter in backbone.named_parameters()}
    known: dict[nn.Parameter, Layer] = {}
    for name, module in backbone.named_modules():
        for matrix in matrices(module):  # a weight that is computed (weight norm) is none
            weight = module._parameters[matrix.weight]
            if weight is None or weight in known or not weight.is_floating_point():
                continue  # a tied weight is adapted once
            shift = None if matrix.bias is None else module._parameters[matrix.bias]
            bias = None if shift is None else first[shift]
            full = ".".join(part for part in (name, matrix.name) if part)
            alone = not matrix.name
            layer = Layer(
                full, first[weight], weight, bias, shift, matrix.transposed, module, alone, matrix.shared
            )
            if admits(layer):
                known[weight] = layer
    wanted = patterns(targets)
    for pattern in wanted or [targets]:
        if not any(fnmatchcase(layer.name, pattern) for layer in known.values()):
            names = ", ".join(layer.name for layer in known.values()) or "none"
            raise AdaptError(
                f"space '{space}': targets '{pattern}' match no layer of {type(backbone).__name__} that it "
                f"can adapt; it has: {names[:400]}"
            )
    chosen = [layer for layer in known.values() if any(fnmatchcase(layer.name, p) for p in wanted)]
    one_dtype(space, {layer.weight: layer.parameter for layer in chosen})
    return chosen


def left_out(backbone: nn.Module, admits: Callable[[Layer], bool] = lambda _: True) -> tuple[str, ...]:
    """The parameters of more than one axis that no layer of ``layers_of(…, "*", admits)`` has for a weight:
    tables that are looked up, prompts, and matrices of which nothing is known."""
    try:
        adapted = {layer.weight for layer in layers_of("", backbone, "*", admits)}
    except AdaptError:
        adapted = set()
    owners = {
        p: module for module in backbone.modules() for p in module._parameters.values() if p is not None
    }
    return tuple(
        name
        for name, parameter in backbone.named_parameters()
        if name not in adapted and not is_vector(parameter) and not is_norm(owners[parameter])
    )


def patterns(targets: str) -> list[str]:
    """``"*query*, *value*"`` as a list."""
    return [pattern.strip() for pattern in targets.split(",") if pattern.strip()]


def _beside(parameter: nn.Parameter, like: Tensor) -> Tensor:
    value = parameter.detach()
    # Moved with the network already, but for devices on which torch gives a network new parameters.
    return value if value.device == like.device else value.to(like.device)
