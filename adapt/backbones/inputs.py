"""What a backbone takes: rows of token ids or real numbers, and how texts become the former."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Tokenise", "input_dtype", "inputs_like", "tokeniser"]

#: Texts → token ids, int64 ``[n, L]``, padded to the longest.
Tokenise = Callable[[Sequence[str]], np.ndarray]


def tokeniser(backbone: nn.Module) -> Tokenise | None:
    """The method ``tokenise`` of a backbone that reads texts; None of one that does not."""
    return getattr(backbone, "tokenise", None)


def input_dtype(backbone: nn.Module) -> torch.dtype:
    """int64 for a backbone that reads token ids, else that of its parameters."""
    if tokeniser(backbone) is not None:
        return torch.int64
    return next((p.dtype for p in backbone.parameters() if p.is_floating_point()), torch.get_default_dtype())


def inputs_like(x: Tensor, like: Tensor) -> Tensor:
    """``x`` on the device of ``like``, and in its dtype unless ``x`` holds token ids."""
    return x.to(like) if x.is_floating_point() else x.to(like.device)
