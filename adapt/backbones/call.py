"""Calling a backbone with other parameters than its own, from any number of threads."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from adapt.backbones.inputs import input_dtype
from adapt.forward.functional import functional
from adapt.forward.kernels import ONE_AT_A_TIME
from adapt.precision import wide

__all__ = ["as_input", "call", "call_as_is", "plain_call"]


def call(backbone: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``backbone(x)`` with ``parameters`` in place of its own of the same names; a pure function.

    Here, at the last moment, what goes in becomes what the network computes with: ``parameters`` have the
    dtypes of its own, and real numbers in ``x`` that of its input. Here too features become float32 where the
    network, or the autocast it runs under, made them bfloat16 or float16.
    """
    return call_as_is(backbone, parameters, as_input(backbone, x))


def call_as_is(backbone: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """:func:`call` for an ``x`` that is in the network's dtype already, as that of a solver, which evaluates
    the network many times.

    Tensors are swapped inside the module while it runs, which two threads must not do at once: calls wait for
    each other.
    """
    if torch.compiler.is_compiling():  # the compiler traces no locks, and compiles one call at a time
        return _swapped(backbone, parameters, x)
    with ONE_AT_A_TIME:
        return _swapped(backbone, parameters, x)


def _swapped(backbone: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    own = {name: _like(value, backbone, name) for name, value in parameters.items()}
    features: Tensor = functional(backbone, own, (x,))
    return wide(features) if isinstance(features, Tensor) else features


def plain_call(network: nn.Module, x: Tensor) -> Tensor:
    """``network(x)`` with its own parameters, and the same conversions of ``x`` and of the features."""
    features: Tensor = network(as_input(network, x))
    return wide(features) if isinstance(features, Tensor) else features


def as_input(network: nn.Module, x: Tensor) -> Tensor:
    """``x`` in the dtype of the network's input; token ids as they are."""
    if not x.is_floating_point() or x.dtype == (wanted := input_dtype(network, x)):
        return x
    return x.to(wanted)


def _like(value: Tensor, backbone: nn.Module, name: str) -> Tensor:
    """``value`` in the dtype of the parameter (or buffer) that it stands for."""
    owner, _, local = name.rpartition(".")
    replaced = getattr(backbone.get_submodule(owner), local, None)
    if not isinstance(replaced, Tensor) or replaced.dtype == value.dtype:
        return value
    return value.to(replaced.dtype)
