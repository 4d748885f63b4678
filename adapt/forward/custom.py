"""Operators that drop tangents, which torch silently takes for zeros.

Where torch cannot look into an operator (``torch.library.custom_op``, a kernel of one's own without an
autograd formula) its result has no tangent, and ``jvp`` says zero. A wrong derivative is worse than none.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from adapt.forward.bodies import body
from adapt.forward.errors import CUSTOM_TYPES, NotDifferentiable, operation_name

__all__ = ["TangentGuard"]

#: Functions of torch that drop tangents as well, in some of their uses: of another dtype, of products, along
#: targets, weights of classes and running statistics (found by differences on torch's database of operators).
DROPPING = (
    Tensor.view,
    torch.scatter_reduce,
    Tensor.scatter_reduce,
    Tensor.scatter_reduce_,
    torch.batch_norm,
    torch.native_batch_norm,
    torch._native_batch_norm_legit,
    torch._C._nn.soft_margin_loss,
    torch._C._nn.nll_loss_nd,
)


class TangentGuard(TorchFunctionMode):
    """While torch differentiates forward: raises where one of these operators takes tangents and returns
    none.

    Raises:
        NotDifferentiable: names the operator.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (written := body(func)) is not None:  # a custom operator may be hidden in it
            with self:
                return written(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        custom = isinstance(func, CUSTOM_TYPES) and not str(func).startswith("aten.")
        if custom or func in DROPPING:
            given, returned = _moving((args, kwargs)), _moving(result)
            if any(given) and not all(returned):
                reason = f"torch passes no tangents through this {'custom operator' if custom else 'call'}"
                raise NotDifferentiable(operation_name(func), reason)
        return result


def _moving(values: Any) -> list[bool]:
    """Whether they have a tangent, of all tensors of numbers in ``values``."""
    leaves = [
        leaf
        for leaf in tree_leaves(values)
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
    ]
    return [forward_ad.unpack_dual(leaf).tangent is not None for leaf in leaves]
