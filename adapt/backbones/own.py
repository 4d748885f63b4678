"""A module of the caller's as a backbone, for configs: ``_target_: adapt.backbones.own``."""

from collections.abc import Sequence

from torch import nn

from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.frozen import frozen
from adapt.backbones.info import BackboneInfo, remember
from adapt.backbones.weights import load_file

__all__ = ["own"]


def own(
    module: nn.Module, weights: str | None = None, input_shape: Sequence[int] | None = None
) -> tuple[nn.Module, BackboneInfo]:
    """``module`` frozen, in evaluation mode, and what is known of it, as ``load_backbone`` returns them.

    Args:
        module: maps ``[n, *input_shape]`` to features ``[n, D]``; with a method ``tokenise(texts)`` it reads
            texts. It is changed in place.
        weights: file of its state dict; None: it has its values already.
        input_shape: of one example; None: the module checks for itself.

    Raises:
        AdaptError: weights of another network, or a file that cannot be read.

    Example:
        >>> backbone, info = own(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_shape=[1, 2, 2])
        >>> info.name, info.input_shape
        ('Sequential', (1, 2, 2))
    """
    if weights is not None:
        load_file(module, weights)
    network = frozen(module)
    name = type(module).__name__
    shape = None if input_shape is None else tuple(input_shape)
    info = BackboneInfo(name, "own", {}, shape, fingerprint(network), settings=None)
    return remember(network, info), info
