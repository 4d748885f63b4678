"""Normalisations and softmaxes.

Both the standardisation x ↦ (x − μ)/σ and the softmax have a *symmetric* Jacobian. Torch's fused kernels for
their backward pass multiply by its transpose, hence they push tangents forward just as well, in one pass over
memory:

    standardise:  ẏ = (ẋ − mean(ẋ) − y mean(y ẋ)) / σ           softmax:  ṗ = p ⊙ (ẋ − Σ p ẋ)
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.errors import Unsupported
from adapt.forward.fast.dual import Dual, dual, primal, rule
from adapt.forward.fast.fallback import fallback
from adapt.forward.fast.rules.arithmetic import accumulate, plus, scaled, summed

__all__: list[str] = []


@rule(F.layer_norm)
def layer_norm(
    func: Any,
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """Ba, Kiros, Hinton (2016): y = x̂ ⊙ w + b."""
    x, w, shape = primal(input), primal(weight), list(normalized_shape)
    value, mean, inverse = torch.native_layer_norm(x, shape, w, primal(bias), eps)
    # Not (x − mean) ⊙ inverse: torch takes these two for constants where it differentiates in reverse.
    standardise = _standardise(x, shape, mean, inverse)
    push = _affine(standardise, w, lambda: F.layer_norm(x, shape, eps=eps), type(weight) is Dual)
    return dual(value, push, input, weight, bias)


@rule(F.group_norm)
def group_norm(
    func: Any, input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Wu and He (2018): standardise each group of channels of each example, then y = x̂ ⊙ w + b by channel."""
    x = primal(input)
    if not x.numel() or x.ndim < 2 or x.shape[1] % num_groups:  # nothing, or an error
        return fallback(func, (input, num_groups, weight, bias, eps), {})
    rows = x.reshape(x.shape[0], num_groups, -1)
    flat, mean, inverse = torch.native_layer_norm(rows, [rows.shape[-1]], None, None, eps)
    standardise = _standardise(rows, [rows.shape[-1]], mean, inverse)
    w, b = (_by_channel(primal(value), x) for value in (weight, bias))
    standard = flat.view_as(x)
    value = standard if w is None else standard * w
    push = _affine(
        lambda t: standardise(t.reshape_as(rows)).view_as(x), w, lambda: standard, type(weight) is Dual
    )
    return dual(
        plus(value, b),
        lambda dx, dw, db: push(dx, _by_channel(dw, x), _by_channel(db, x)),
        input,
        weight,
        bias,
    )


@rule(F.batch_norm)
def batch_norm(
    func: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Ioffe and Szegedy (2015) with running statistics: an affine map of every channel. Batch statistics mix
    the examples and change buffers: torch has the derivative, if nothing is tracked."""
    if training:
        return fallback(func, (input, running_mean, running_var, weight, bias, training, momentum, eps), {})
    if type(running_mean) is Dual or type(running_var) is Dual:  # torch drops or refuses their tangents
        mean, variance, factor, shift = (
            _by_channel(value, input) for value in (running_mean, running_var, weight, bias)
        )
        standard = (input - mean) * (variance + eps).rsqrt()
        return plus(standard if factor is None else standard * factor, shift)
    x, w = primal(input), primal(weight)
    inverse = (running_var + eps).rsqrt()
    scale = _by_channel(inverse if w is None else w * inverse, x)
    value = func(x, running_mean, running_var, w, primal(bias), False, momentum, eps)
    mean, inverse = _by_channel(running_mean, x), _by_channel(inverse, x)
    push = _affine(lambda t: t * scale, None, lambda: (x - mean) * inverse, type(weight) is Dual)
    return dual(
        value,
        lambda dx, dw, db: push(dx, _by_channel(dw, x), _by_channel(db, x)),
        input,
        weight,
        bias,
    )


@rule(F.instance_norm)
def instance_norm(
    func: Any,
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Ulyanov, Vedaldi, Lempitsky (2016): a group norm with a group per channel."""
    if not use_input_stats:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None:
        raise Unsupported("instance_norm", "it changes its running statistics")
    if input.shape[2:].numel() <= 1:  # an error
        return func(primal(input), None, None, primal(weight), primal(bias), True, momentum, eps)
    return F.group_norm(input, input.shape[1], weight, bias, eps)


@rule(F.rms_norm)
def rms_norm(
    func: Any, input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    """Zhang and Sennrich (2019): y = x r ⊙ w, r = (mean(x²) + ε)^(−½);  ẏ = (ẋ − y mean(y ẋ)) r for w = 1."""
    x, w = primal(input), primal(weight)
    dims = list(range(-len(normalized_shape), 0))
    if x.shape[dims[0] :] != torch.Size(normalized_shape):
        return func(x, normalized_shape, w, eps)  # an error
    epsilon = torch.finfo(x.dtype).eps if eps is None else eps
    inverse = (x.square().mean(dims, keepdim=True) + epsilon).rsqrt()
    standard = x * inverse

    def standardise(t: Tensor) -> Tensor:
        return (t - standard * (standard * t).mean(dims, keepdim=True)) * inverse

    push = _affine(standardise, w, lambda: standard, type(weight) is Dual)
    return dual(standard if w is None else standard * w, lambda dx, dw: push(dx, dw, None), input, weight)


@rule(F.softmax, torch.softmax, Tensor.softmax)
def softmax(func: Any, input: Any, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
    """ṗ = p ⊙ (ẋ − Σ p ẋ)."""
    if dim is None:
        return fallback(func, (input, dim, *args), kwargs)
    p = func(primal(input), dim, *args, **kwargs)
    return dual(p, lambda t: torch._softmax_backward_data(t.to(p.dtype), p, dim, p.dtype), input)


@rule(F.log_softmax, torch.log_softmax, Tensor.log_softmax)
def log_softmax(func: Any, input: Any, dim: Any = None, *args: Any, **kwargs: Any) -> Any:
    """ẋ − Σ p ẋ."""
    if dim is None:
        return fallback(func, (input, dim, *args), kwargs)
    value = func(primal(input), dim, *args, **kwargs)
    p = value.exp()
    return dual(value, lambda t: t - (p * t).sum(dim, keepdim=True), input)


def _standardise(x: Tensor, shape: list[int], mean: Tensor, inverse: Tensor) -> Callable[[Tensor], Tensor]:
    x = x.to(mean.dtype)  # under autocast the statistics are float32 although x is not

    def push(t: Tensor) -> Tensor:
        return torch.ops.aten.native_layer_norm_backward(
            t.to(x.dtype).contiguous(), x, shape, mean, inverse, None, None, [True, False, False]
        )[0]

    return push


def _affine(
    standardise: Callable[[Tensor], Tensor],
    weight: Tensor | None,
    standard: Callable[[], Tensor],
    weighs: bool,
) -> Callable[..., Any]:
    """The tangent of ``standard(x) ⊙ w + b``; ``standard`` is computed if the weight moves (``weighs``)."""
    factor = standard() if weighs else None

    def push(dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> Any:
        total = None
        if dx is not None:
            total = standardise(dx) if weight is None else scaled(standardise(dx), weight)
        if dw is not None:
            assert factor is not None
            total = accumulate(total, factor, dw)
        return summed(total, db)

    return push


def _by_channel(value: Any, x: Tensor) -> Any:
    return None if value is None else value.view(-1, *(1,) * (x.ndim - 2))
