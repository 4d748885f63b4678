"""A module of the caller's as a backbone, for configs: ``_target_: adapt.backbones.own``."""

from collections.abc import Sequence

import torch
from torch import nn

from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.frozen import frozen
from adapt.backbones.info import BackboneInfo, remember
from adapt.backbones.structure import check_structure
from adapt.backbones.weights import load_file
from adapt.checks import Number, check_setting, list_of
from adapt.errors import AdaptError

__all__ = ["own"]


def own(
    module: nn.Module,
    weights: str | None = None,
    input_shape: Sequence[int] | None = None,
    input_dtype: str | None = None,
    value_range: Sequence[float] | None = None,
) -> tuple[nn.Module, BackboneInfo]:
    """``module`` frozen, in evaluation mode, and what is known of it, as ``load_backbone`` returns them.

    Args:
        module: maps ``[n, *input_shape]`` to features ``[n, D]``; with a method ``tokenise(texts)`` it reads
            texts. It is changed in place.
        weights: file of its state dict; None: it has its values already.
        input_shape: of one example; None: the module checks for itself.
        input_dtype: in which it takes examples, such as ``float64``; None: that of its first layer.
        value_range: the least and the greatest value of the examples that it was trained on, for instance
            [0, 1]: bytes are then scaled to it, and values outside refused. None: not known.

    Raises:
        AdaptError: weights of another network, a file that cannot be read, an unknown dtype, a range that is
            none, or a module that is none (wrapped, scripted, without values).

    Example:
        >>> backbone, info = own(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_shape=[1, 2, 2])
        >>> info.name, info.input_shape
        ('Sequential', (1, 2, 2))
    """
    check_structure(module)
    if input_dtype is not None and not isinstance(getattr(torch, input_dtype, None), torch.dtype):
        raise AdaptError(f"input_dtype={input_dtype}: torch knows no such dtype, try float32 or int64")
    limits = (
        None if value_range is None else tuple(check_setting("value_range", value_range, list_of(Number())))
    )
    if limits is not None and (len(limits) != 2 or not limits[0] < limits[1]):
        raise AdaptError(f"value_range={limits}: give the least and the greatest value, such as [0, 1]")
    if weights is not None:
        load_file(module, weights)
    network = frozen(module)
    name = type(module).__name__
    shape = None if input_shape is None else tuple(input_shape)
    info = BackboneInfo(
        name,
        "own",
        {},
        shape,
        fingerprint(network),
        settings=None,
        input_dtype=input_dtype,
        value_range=limits,
    )
    return remember(network, info), info
