"""A loss made of a chain of layers, for estimators that look inside the network.

    a_l = W_l h_(l−1) + b_l ,   h_l = φ_l(a_l) ,   f(x) = mean_i ℓ(h_L)_i ,   x = (W_1, b_1, …, W_L, b_L)

Blocks may have losses of their own. These cut the chain into stages, each of which ends in a loss and sees
the activations that enter it as constants: greedy, local learning as in Ren, Kornblith, Liao, Hinton (2023),
*Scaling Forward Gradient With Local Losses*, arXiv 2210.03310, section 4. Difference: local losses have no
parameters here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.nn.grad import conv2d_weight

from adapt.errors import AdaptError

__all__ = ["Block", "Layered", "Parameters"]

Parameters = tuple[Tensor, ...]  # (weight, bias), or (weight,) of a layer without bias


@dataclass(frozen=True)
class Block:
    """An affine layer, the function that follows it, and a loss if a stage ends here.

    Args:
        layer: gives the shapes, the stride and so on, and the values to start from; it is never written to.
        after: pure function of the pre-activations ``[n, …]`` (activation, pooling, flattening, …).
        loss: ``[n, …] → [n]``, from the block's output to one value for each example. It, and ``after``, must
            treat every example alone.
    """

    layer: nn.Linear | nn.Conv2d
    after: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        layer = self.layer
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise AdaptError(f"a block of {type(layer).__name__}: its layer must be nn.Linear or nn.Conv2d")
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise AdaptError("a convolution in a block needs padding in numbers, with zeros")

    def __call__(self, parameters: Parameters, h: Tensor) -> Tensor:
        """The block's output ``[n, …]`` for inputs ``h [n, …]``."""
        return self.after(self.affine(parameters, h))

    def affine(self, parameters: Parameters, h: Tensor) -> Tensor:
        """Pre-activations ``[n, …]`` for inputs ``h [n, …]``."""
        weight, bias = parameters[0], parameters[1] if len(parameters) == 2 else None
        return conv2d(h, weight, bias, **self._geometry) if self._geometry else linear(h, weight, bias)

    def outer(self, h: Tensor, g: Tensor) -> Parameters:
        """Gradient for the layer's parameters, from its inputs ``h`` and the gradient ``g`` at its
        pre-activations, both ``[n, …]``: outer products, summed over examples and places."""
        shape = self.layer.weight.shape
        if self._geometry:
            weight, bias = conv2d_weight(h, shape, g, **self._geometry), g.sum((0, 2, 3))
        else:
            rows = g.flatten(0, -2)  # [n, out]
            weight, bias = rows.T @ h.flatten(0, -2), rows.sum(0)
        return (weight,) if self.layer.bias is None else (weight, bias)

    def losses(self, h: Tensor) -> Tensor:
        """The block's loss ``[n]`` for each example."""
        assert self.loss is not None
        values = self.loss(h)
        if values.shape != h.shape[:1]:
            raise AdaptError(
                f"a loss gave {list(values.shape)} for {len(h)} examples: it must give one value for each, "
                "as with reduction='none'"
            )
        return values

    @property
    def _geometry(self) -> dict[str, Any]:
        if isinstance(self.layer, nn.Linear):
            return {}
        return {name: getattr(self.layer, name) for name in ("stride", "padding", "dilation", "groups")}


Stage = list[tuple[Block, Parameters]]


@dataclass(frozen=True, eq=False)
class Layered:
    """The loss of a chain of ``blocks`` on ``inputs [n, …]``, as a function of one vector ``x [P]``.

    Only the last block must have a loss. It is the loss proper: what a call returns, averaged over examples.
    Any estimator can be applied to it; :class:`ActivityPerturbation` and :class:`LocalGradients` use its
    parts.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> square = Block(nn.Linear(2, 1), after=lambda a: a, loss=lambda h: h.square().sum(1))
        >>> f = Layered(torch.ones(4, 2), [square])
        >>> f(torch.tensor([1.0, 2.0, 0.0]))  # W = (1, 2), b = 0
        tensor(9.)
    """

    inputs: Tensor
    blocks: Sequence[Block]

    def __post_init__(self) -> None:
        if not self.blocks or self.blocks[-1].loss is None:
            raise AdaptError("Layered needs at least one block, and the last one needs a loss")

    @property
    def start(self) -> Tensor:
        """The layers' own weights and biases as one vector ``[P]``, a copy."""
        return torch.cat([p.detach().flatten() for block in self.blocks for p in _own(block)])

    def split(self, x: Tensor) -> list[Parameters]:
        """Views of ``x [P]`` as the parameters of each block."""
        sizes = [p.numel() for block in self.blocks for p in _own(block)]
        if x.shape != (sum(sizes),):
            raise AdaptError(f"x has the shape {list(x.shape)}: these blocks have {sum(sizes)} parameters")
        pieces = iter(x.split(sizes))
        return [tuple(next(pieces).view(p.shape) for p in _own(block)) for block in self.blocks]

    def stages(self, x: Tensor) -> list[Stage]:
        """The blocks with their parameters, cut after each loss."""
        stages: list[Stage] = []
        stage: Stage = []
        for block, parameters in zip(self.blocks, self.split(x), strict=True):
            stage.append((block, parameters))
            if block.loss is not None:  # as the last block has one, no block is left over
                stages.append(stage)
                stage = []
        return stages

    def __call__(self, x: Tensor) -> Tensor:
        """The loss proper at ``x [P]``, a scalar."""
        h = self.inputs
        for block, parameters in zip(self.blocks, self.split(x), strict=True):
            h = block(parameters, h)
        return self.blocks[-1].losses(h).mean()


def _own(block: Block) -> Parameters:
    return (block.layer.weight,) if block.layer.bias is None else (block.layer.weight, block.layer.bias)
