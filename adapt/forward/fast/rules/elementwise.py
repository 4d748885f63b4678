"""Functions of each number by itself: u̇ ↦ g'(u) ⊙ u̇.

The derivative g'(u) is computed once, by torch's own ``jvp`` along a tangent of ones, and costs about two
evaluations of g; every tangent then costs one multiplication, less than g itself (a GELU takes an error
function per number).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.fast.dual import dual, primal, rule
from adapt.forward.fast.fallback import dense, differentiate, fallback

__all__: list[str] = []

OPERATORS = (
    "abs acos acosh asin asinh atan atanh clamp clamp_max clamp_min clip cos cosh deg2rad digamma erf erfc "
    "erfinv exp exp2 expm1 lgamma log log10 log1p log2 logit pow rad2deg reciprocal rsqrt sigmoid sin sinc "
    "sinh sqrt square tan tanh nan_to_num"
)
ACTIVATIONS = (
    "celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6 selu silu "
    "softplus softshrink softsign tanhshrink threshold sigmoid tanh"
)


def _functions() -> list[Any]:
    owners = [(torch, OPERATORS), (Tensor, OPERATORS), (torch.special, "expit erf"), (F, ACTIVATIONS)]
    found = [
        getattr(owner, name) for owner, names in owners for name in names.split() if hasattr(owner, name)
    ]
    return [*found, Tensor.__pow__]


@rule(*_functions())
def elementwise(func: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    """g'(u) ⊙ u̇."""
    if any(
        isinstance(value, Tensor) for value in (*args, *kwargs.values())
    ):  # an exponent or a bound may move too
        return fallback(func, (input, *args), kwargs)
    inplace = kwargs.pop("inplace", False)
    point = dense(primal(input))
    if inplace and torch.is_grad_enabled():  # autograd keeps the point, which is about to be written over
        point = point.clone()
    value, slope = differentiate(lambda u: func(u, *args, **kwargs), (point,), (torch.ones_like(point),))
    result = dual(value, lambda t: t * slope, input)
    return input.overwrite(result) if inplace else result


@rule(F.relu, torch.relu, Tensor.relu)
def relu(func: Any, input: Any, inplace: bool = False) -> Any:
    """[u > 0] ⊙ u̇, by the kernel that torch has for it."""
    value = torch.relu(primal(input))
    result = dual(value, lambda t: torch.ops.aten.threshold_backward(t, value, 0), input)
    return input.overwrite(result) if inplace else result
