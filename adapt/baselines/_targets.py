"""What a head is fitted to, from a support of either kind."""

import torch
from torch import Tensor, nn

from adapt.adapter.method import Support
from adapt.backbones import examples_for
from adapt.heads import one_hot

__all__ = ["support_for", "targets_of"]


def support_for(backbone: nn.Module, support: Support) -> Support:
    """``support`` with its examples as ``backbone`` takes them, of which the contract is checked."""
    return support._replace(x=examples_for(backbone, support.x))


def targets_of(support: Support) -> Tensor:
    """``[n, C]`` in the dtype of the examples, float32 at least (the default for token ids): one-hot rows, or
    the values themselves."""
    real = support.x.is_floating_point()
    dtype = torch.promote_types(support.x.dtype, torch.float32) if real else torch.get_default_dtype()
    return support.y.to(dtype) if support.regression else one_hot(support.y, support.ways, dtype)
