"""Linear maps of a network, chosen by name: what LoRA, IA³ and residual adapters adapt."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from adapt.errors import AdaptError

__all__ = ["Layer", "layers_of", "patterns"]

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear map of a network.

    Attributes:
        name: of its module in the network; "" for the network itself.
        weight, bias: names of its parameters in the network; a tied one has its first name.
        parameter, shift: these parameters. They are the network's own objects, whose data moves to another
            device with it; while the network runs with other values, these keep theirs.
        transposed: the weight is stored ``[in, out]``, as in GPT-2, and not ``[out, in, *kernel]``.
        module: for its settings (kernel size, groups), never for its parameters.
    """

    name: str
    weight: str
    parameter: nn.Parameter
    bias: str | None
    shift: nn.Parameter | None
    transposed: bool
    module: nn.Module

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
    space: str, backbone: nn.Module, targets: str, admits: Callable[[nn.Module], bool] = lambda _: True
) -> list[Layer]:
    """The linear and convolution layers that ``admits`` and whose module names match ``targets``.

    Args:
        space: for messages.
        backbone: the network.
        targets: patterns as of file names, separated by commas: ``*query*,*value*``; each must match.

    Raises:
        AdaptError: a pattern that matches no such layer, or no pattern at all.
    """
    first = {parameter: key for key, parameter in backbone.named_parameters()}
    known: dict[nn.Parameter, Layer] = {}
    for name, module in backbone.named_modules():
        weight, shift = module._parameters.get("weight"), module._parameters.get("bias")
        transposed = _is_transposed(module)
        if weight is None or weight in known or not (transposed or isinstance(module, KINDS)):
            continue  # a tied weight is adapted once; one that is computed (weight norm) cannot be
        if admits(module):
            bias = None if shift is None else first[shift]
            known[weight] = Layer(name, first[weight], weight, bias, shift, transposed, module)
    wanted = patterns(targets)
    for pattern in wanted or [targets]:
        if not any(fnmatchcase(layer.name, pattern) for layer in known.values()):
            names = ", ".join(layer.name for layer in known.values()) or "none"
            raise AdaptError(
                f"space '{space}': targets '{pattern}' match no layer of {type(backbone).__name__} that it "
                f"can adapt; it has: {names[:400]}"
            )
    return [layer for layer in known.values() if any(fnmatchcase(layer.name, p) for p in wanted)]


def patterns(targets: str) -> list[str]:
    """``"*query*, *value*"`` as a list."""
    return [pattern.strip() for pattern in targets.split(",") if pattern.strip()]


def _beside(parameter: nn.Parameter, like: Tensor) -> Tensor:
    value = parameter.detach()
    # Moved with the network already, but for devices on which torch gives a network new parameters.
    return value if value.device == like.device else value.to(like.device)


def _is_transposed(module: nn.Module) -> bool:
    """Whether it is the ``Conv1D`` of transformers, a linear layer in spite of its name."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"
