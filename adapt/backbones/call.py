"""Calling a backbone with other parameters than its own, from any number of threads."""

import threading
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["call"]

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()


def call(backbone: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``backbone(x)`` with ``parameters`` in place of its own of the same names; a pure function.

    ``torch.func.functional_call`` swaps tensors inside the module while it runs, which two threads must not
    do at once: calls on one backbone wait for each other.
    """
    if torch.compiler.is_compiling():  # the compiler traces no locks, and compiles one call at a time
        return _swapped(backbone, parameters, x)
    with _GUARD:
        lock = _LOCKS.setdefault(backbone, threading.RLock())
    with lock:
        return _swapped(backbone, parameters, x)


def _swapped(backbone: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    features: Tensor = functional_call(backbone, dict(parameters), (x,))
    return features
