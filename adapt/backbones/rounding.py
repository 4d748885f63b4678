"""Whether two ways of computing the same features agree up to rounding."""

import torch
from torch import Tensor, nn

from adapt.backbones.structure import tensors_of

__all__ = ["agree", "tolerance"]

#: By dtype, how much features may differ between batches of one and of two, as a share of their norm. Kernels
#: sum in another order for another number of rows, and every layer passes on what the one before has rounded.
#: In deep networks (ResNet-18, MobileNetV2, Swin, MiniLM) at most a twentieth of this was measured; a network
#: that looks at its batch is off by far more. In the norm, not at the worst number, which grows with how many
#: there are.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
#: Quantised layers round to eight bits, by a scale that dynamic ones take from the whole batch.
QUANTISED = 5e-2


def tolerance(backbone: nn.Module, features: Tensor) -> float:
    """That of the coarsest numbers that ``features`` were computed with: those of the weights, of autocast,
    of TF32, of quantised layers."""
    kind = features.device.type
    dtypes = {features.dtype}
    quantised = False
    for module in backbone.modules():
        quantised |= "quantized" in type(module).__module__
        dtypes |= {tensor.dtype for _, tensor in tensors_of(module)}
    if torch.is_autocast_enabled(kind):
        dtypes.add(torch.get_autocast_dtype(kind))
    if kind == "cuda" and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32):
        dtypes.add(torch.float16)  # as many bits
    known = [limit for dtype, limit in TOLERANCE.items() if dtype in dtypes]
    return max([*known, QUANTISED] if quantised else known)


def agree(a: Tensor, b: Tensor, limit: float, size: float | None = None) -> bool:
    """Whether ``a`` and ``b`` have one shape, and the norm of their difference is at most ``limit`` of
    ``size``, by default the norm of ``b``."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return bool((a == b).all())
    a, b = a.double(), b.double()
    apart = (a - b).masked_fill(
        (a == b) | (a.isnan() & b.isnan()), 0.0
    )  # infinity − infinity is not a number
    if size is None:
        size = float(b.masked_fill(~b.isfinite(), 0.0).norm())
    return bool(apart.norm() <= limit * size)
