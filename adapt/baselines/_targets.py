"""What a head is fitted to, from a support of either kind."""

import torch
from torch import Tensor, nn

from adapt.adapter.method import Support
from adapt.backbones import examples_for
from adapt.errors import AdaptError
from adapt.heads import Direct, Head, Ridge, one_hot

__all__ = ["check_outputs", "check_regression_head", "is_regression", "support_for", "targets_of"]


def support_for(backbone: nn.Module, support: Support) -> Support:
    """``support`` with its examples as ``backbone`` takes them, of which the contract is checked."""
    return support._replace(x=examples_for(backbone, support.x))


def is_regression(support: Support) -> bool:
    """Whether the support holds values rather than labels."""
    return not support.classes


def targets_of(support: Support) -> Tensor:
    """``[n, C]`` in the dtype of the examples (the default one for token ids): one-hot rows, or the values
    themselves."""
    dtype = support.x.dtype if support.x.is_floating_point() else torch.get_default_dtype()
    return support.y.to(dtype) if is_regression(support) else one_hot(support.y, support.ways, dtype)


def check_regression_head(head: Head) -> None:
    """Refuse a head that does not predict values."""
    if not head.supports_regression:
        raise AdaptError(
            f"head={type(head).__name__} classifies, but this task is a regression: use heads.Ridge (on "
            "features) or heads.Direct (the network's outputs)"
        )
    if isinstance(head, Ridge) and head.scale != 1:
        raise AdaptError(
            f"head.scale={head.scale} turns outputs into logits, but this task is a regression: use scale=1"
        )


def check_outputs(head: Head, features: Tensor, targets: Tensor) -> None:
    """Refuse a network whose outputs are to be the predictions but do not have the shape of the targets."""
    if isinstance(head, Direct) and features.shape != targets.shape:
        raise AdaptError(
            f"head=Direct takes the network's outputs {tuple(features.shape)} for the targets "
            f"{tuple(targets.shape)}: use a network with as many outputs, or heads.Ridge on its features"
        )
