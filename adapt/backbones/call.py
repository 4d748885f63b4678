"""Calling a backbone with other parameters than its own, from any number of threads."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt.forward.kernels import ONE_AT_A_TIME

__all__ = ["call"]


def call(backbone: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``backbone(x)`` with ``parameters`` in place of its own of the same names; a pure function.

    ``torch.func.functional_call`` swaps tensors inside the module while it runs, which two threads must not
    do at once: calls wait for each other.
    """
    if torch.compiler.is_compiling():  # the compiler traces no locks, and compiles one call at a time
        return _swapped(backbone, parameters, x)
    with ONE_AT_A_TIME:
        return _swapped(backbone, parameters, x)


def _swapped(backbone: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    features: Tensor = functional_call(backbone, dict(parameters), (x,))
    return features
