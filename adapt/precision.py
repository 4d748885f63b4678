"""What is computed in which precision: the network as its owner wants, the rest in float32 or wider.

A network may be bfloat16 or float16, or run under ``torch.autocast``: its features have two or three digits.
What is solved with them (a head, a step of Gauss–Newton) would lose these digits as well, and torch does not
even factorise a matrix of such numbers. So features leave the network as float32 at least (:func:`wide`), and
heads and solvers compute outside autocast (:func:`full_precision`); only the network runs under the autocast
that the caller is in (:class:`Autocast`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["Autocast", "autocast_of", "double", "full_precision", "is_low", "outside_autocast", "wide"]

P = ParamSpec("P")
R = TypeVar("R")


def is_low(dtype: torch.dtype) -> bool:
    """Whether ``dtype`` is floating-point, and of fewer bits than float32."""
    return dtype.is_floating_point and dtype.itemsize < 4


def wide(tensor: Tensor) -> Tensor:
    """``tensor``, as float32 if it is bfloat16 or float16; differentiable."""
    return tensor.float() if is_low(tensor.dtype) else tensor


def double(tensor: Tensor) -> Tensor:
    """``tensor`` as float64, for systems whose condition is that of a squared matrix; as it is on a device
    that has no such numbers."""
    return tensor if tensor.device.type == "mps" else tensor.double()


class Autocast(NamedTuple):
    """The ``torch.autocast`` that a thread is in, for one type of device; ``dtype`` is None if it is in
    none."""

    device: str
    dtype: torch.dtype | None
    cache: bool = True

    def again(self) -> AbstractContextManager[Any]:
        """Enter it once more, from code that is outside it."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device, self.dtype, cache_enabled=self.cache)

    def around(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function``, run under it."""
        if self.dtype is None:
            return function

        def inside(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.again():
                return function(*args, **kwargs)

        return inside


def autocast_of(device: torch.device) -> Autocast:
    """The autocast that this thread is in, on devices of the type of ``device``."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return Autocast(kind, None)
    return Autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_cache_enabled())


def outside_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """In it no autocast changes the dtype of anything on devices of the type of ``device``."""
    inside = autocast_of(device).dtype is not None
    return torch.autocast(device.type, enabled=False) if inside else nullcontext()


def full_precision(method: Callable[P, R]) -> Callable[P, R]:
    """``method`` computed outside autocast on real tensors of one dtype: the widest of its arguments',
    float32 at least."""

    @wraps(method)
    def computed(self: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
        if len(dtypes) > 1 or any(map(is_low, dtypes)):
            widest = reduce(torch.promote_types, dtypes, torch.float32)

            def converted(leaf: Any) -> Any:
                return leaf.to(widest) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

            args, kwargs = tree_map(converted, (args, kwargs))
        with outside_autocast(tensors[0].device) if tensors else nullcontext():
            return method(self, *args, **kwargs)

    return computed  # type: ignore[return-value]
