"""Layer norm in elementary operations, where torch's own has no derivative or a wrong one.

    y = (x − mean(x)) / √(mean((x − mean(x))²) + ε) ⊙ w + b

Ba, Kiros, Hinton (2016), *Layer Normalization*, equation 3. Compiled code has no forward derivative of the
fused operator when its weight is frozen; and the derivative *of* its forward derivative takes the mean and
deviation for constants (torch 2.13).
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["WrittenNorms"]


class WrittenNorms(TorchFunctionMode):
    """While active, layer norms are written out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_layer_norm if func is F.layer_norm else func)(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    dims = list(range(-len(normalized_shape), 0))
    centred = input - input.mean(dims, keepdim=True)
    value = centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()
    value = value if weight is None else value * weight
    return value if bias is None else value + bias
