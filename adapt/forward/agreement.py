"""Whether two ways to compute the same thing agree up to rounding."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from adapt.forward.types import Pytree

__all__ = ["TOLERANCE", "Dtypes", "difference"]

#: Largest difference of two results, relative to the largest number, that is put down to rounding.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Dtypes(TorchFunctionMode):
    """Notes in ``seen`` the dtypes that are computed in: a result may be wider than what it was made of."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.seen.add(result.dtype)
        return result


def difference(right: Pytree, computed: Pytree, dtypes: Collection[torch.dtype] = ()) -> str | None:
    """What is wrong with ``computed``, None if nothing; integers and empty tensors are not compared.
    ``dtypes``: others than those of the results that were computed in."""
    for a, b in zip(tree_leaves(right), tree_leaves(computed), strict=True):
        if not isinstance(a, Tensor) or not a.is_floating_point() or not a.numel():
            continue
        error = float((a.double() - b.double()).abs().max()) / max(float(a.double().abs().max()), 1e-30)
        if not error <= _tolerance(a, dtypes):  # NaN included
            return f"off by {error:.1e} of the largest number"
    return None


def _tolerance(like: Tensor, dtypes: Collection[torch.dtype]) -> float:
    """Of the coarsest dtype that was computed in."""
    kind = like.device.type
    coarse = [torch.get_autocast_dtype(kind)] if torch.is_autocast_enabled(kind) else []
    return max(TOLERANCE[dtype] for dtype in (like.dtype, *coarse, *dtypes) if dtype in TOLERANCE)
