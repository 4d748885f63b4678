"""Calls of torch functions, one or more for each rule of the fast engine: what its rules are tested on.

Tables by family: name → :class:`Call`. The operands of a call are random, and each of them may move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.fast.rules import elementwise, linear

__all__ = ["ARGUMENTS", "FAMILIES", "POSITIVE", "SHAPES", "Call", "M", "V", "constant", "operands"]


@dataclass(frozen=True)
class Call:
    """``f`` of operands of ``shapes``; ``positive``: they lie in (0.1, 0.9) instead of around 0;
    ``channels_last``: the first one, images, is stored so."""

    f: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    positive: bool = False
    channels_last: bool = False


def operands(call: Call, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        if call.positive:
            return (0.1 + 0.8 * torch.rand(shape, generator=generator, dtype=torch.float64)).to(dtype)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    drawn = list(map(draw, call.shapes))
    if call.channels_last:
        drawn[0] = drawn[0].contiguous(memory_format=torch.channels_last)
    return tuple(drawn)


def call(f: Callable[..., Any], *shapes: tuple[int, ...], **options: bool) -> Call:
    return Call(f, shapes, **options)


def constant(*shape: int) -> Tensor:
    """A plain tensor that an operation meets."""
    return torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=torch.float64).view(shape)


ROWS = torch.tensor([[True, False, True, True], [False, True, True, False], [True, True, False, True]])
LABELS = torch.tensor([0, 3, 1])
V, M, N = (4,), (3, 4), (4, 3)

# ------------------------------------------------------------------- families made from the rules' own lists

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "clamp": (-0.5, 0.5),
    "clip": (-0.5,),
    "clamp_max": (0.2,),
    "clamp_min": (0.2,),
    "pow": (3,),
    "__pow__": (2.5,),
    "threshold": (0.3, 0.1),
    "chunk": (2,),
    "cumsum": (0,),
    "diagonal": (),
    "flip": ((0, 1),),
    "gather": (1, torch.tensor([[0, 2], [3, 3], [1, 0]])),
    "index_select": (1, torch.tensor([0, 2, 2])),
    "mean": ((0, 1),),
    "movedim": (0, 1),
    "moveaxis": ((0, 1), (1, 0)),
    "narrow": (1, 1, 2),
    "permute": ((1, 0),),
    "repeat_interleave": (2, 1),
    "reshape": ((2, 6),),
    "roll": (2, 1),
    "select": (1, 2),
    "split": (3, 1),
    "squeeze": (),
    "sum": (1, True),
    "swapaxes": (0, 1),
    "swapdims": (0, 1),
    "take_along_dim": (torch.tensor([[0, 2], [3, 3], [1, 0]]), 1),
    "tensor_split": (3, 1),
    "tile": ((2, 1),),
    "transpose": (0, 1),
    "unbind": (1,),
    "unflatten": (1, (2, 2)),
    "unsqueeze": (1,),
    "view": (4, 3),
    "view_as": (constant(2, 6),),
    "reshape_as": (constant(2, 6),),
    "expand": (2, 3, 4),
    "expand_as": (constant(2, 3, 4),),
    "repeat": (2, 1),
    "to": (torch.float32,),
    "type_as": (constant(2),),
    "unfold": (1, 2, 1),
    "__getitem__": ((slice(None), torch.tensor([0, 0, 3])),),
    "sum_to_size": (1, 4),
    # in-place methods and comparisons
    **dict.fromkeys(("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide"), (1.5,)),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__"), (0.0,)),
    **dict.fromkeys(("__le__", "__gt__", "__ge__", "__contains__"), (0.0,)),
    **dict.fromkeys(("__add__", "__sub__", "__mul__", "__truediv__", "__div__"), (constant(4),)),
    **dict.fromkeys(("isclose", "allclose", "equal"), (constant(3, 4),)),
    "addcmul": (constant(3, 4), constant(4)),
    "addmm": (constant(3, 2), constant(2, 4)),
    "addmv": (constant(4, 4), constant(4)),
    "baddbmm": (constant(2, 3, 2), constant(2, 2, 4)),
    "masked_fill": (ROWS, 2.0),
}
#: Shapes other than [3, 4].
SHAPES: dict[str, tuple[int, ...]] = {"addmv": V, "baddbmm": (2, 3, 4)}
POSITIVE = (
    "acos acosh asin atanh digamma erfinv lgamma log log10 log1p log2 logit pow __pow__ reciprocal rsqrt sqrt"
)


def _method(owner: Any, name: str) -> Call:
    function = getattr(owner, name)
    arguments = ARGUMENTS.get(name, ())
    shift = 1.0 if name == "acosh" else 0.0
    return call(
        lambda x: function(x + shift, *arguments), SHAPES.get(name, M), positive=name in POSITIVE.split()
    )


def _family(**owners: tuple[Any, str]) -> dict[str, Call]:
    return {
        f"{title}.{name}": _method(owner, name)
        for title, (owner, names) in owners.items()
        for name in names.split()
        if hasattr(owner, name)
    }


ELEMENTWISE = {
    **_family(
        torch=(torch, elementwise.OPERATORS + " relu"),
        Tensor=(Tensor, elementwise.OPERATORS + " relu __pow__"),
        F=(F, elementwise.ACTIVATIONS),
    ),
    "expit": call(torch.special.expit, M),
    "clamp, named": call(lambda x: torch.clamp(input=x, max=0.4), M),
    "leaky_relu, in place": call(lambda x: F.leaky_relu(x * 2, 0.1, inplace=True), M),
    "elu, in place by position": call(lambda x: F.elu(x * 2, 0.7, True), M),
    "relu, in place": call(lambda x: F.relu(x * 2, inplace=True), M),
    "a number": call(lambda x: torch.tanh(x) ** 2, ()),
    "nothing": call(torch.exp, (0, 4)),
}

LINEAR = {
    **_family(
        torch=(torch, linear.BOTH + " clone"),
        Tensor=(
            Tensor,
            f"{linear.BOTH} clone view view_as "
            + linear.METHODS.replace("half bfloat16", "").replace("cuda", ""),
        ),
    ),
    **{name: call(lambda x, name=name: getattr(x, name), M) for name in linear.PROPERTIES.split()},
    "__getitem__, an ellipsis and None": call(lambda x: x[..., None, 1:], M),
    "__getitem__, a mask": call(lambda x: x[ROWS], M),
    "__getitem__, a number": call(lambda x: x[1] * x[-1], M),
    "mean, a dtype": call(lambda x: x.mean(-1, dtype=torch.float64), M),
    "unpacked": call(lambda x: (lambda a, b, c: a * c)(*x), M),
    "iterated": call(lambda x: sum(row * row for row in x), M),
    "avg_pool1d": call(lambda x: F.avg_pool1d(x, 3, 2, 1), (2, 3, 7)),
    "avg_pool2d": call(lambda x: F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False), (2, 3, 5, 5)),
    "avg_pool3d": call(lambda x: F.avg_pool3d(x, 2), (1, 2, 4, 4, 4)),
    "adaptive_avg_pool1d": call(lambda x: F.adaptive_avg_pool1d(x, 2), (2, 3, 5)),
    "adaptive_avg_pool2d": call(lambda x: F.adaptive_avg_pool2d(x, (1, 2)), (2, 3, 5, 5)),
    "adaptive_avg_pool3d": call(lambda x: F.adaptive_avg_pool3d(x, 1), (1, 2, 3, 3, 3)),
    "fold": call(lambda x: F.fold(x, (4, 4), 2), (1, 8, 9)),
    "F.unfold": call(lambda x: F.unfold(x, 2), (1, 2, 4, 4)),
    "interpolate, nearest": call(lambda x: F.interpolate(x, scale_factor=2), (1, 2, 3, 3)),
    "pad": call(lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), (2, 3, 4)),
    "constant_pad_nd": call(lambda x: torch.constant_pad_nd(x, (1, 2), 0.5), (2, 3, 4)),
    "pixel_shuffle": call(lambda x: F.pixel_shuffle(x, 2), (1, 8, 2, 2)),
    "pixel_unshuffle": call(lambda x: F.pixel_unshuffle(x, 2), (1, 2, 4, 4)),
    "cat": call(lambda a, b: torch.cat([a, b]), M, (2, 4)),
    "cat, dim": call(lambda a, b: torch.cat((a, constant(3, 2), b), dim=-1), M, (3, 1)),
    "concat, axis": call(lambda a, b: torch.concat([a, b], axis=1), M, M),
    "concatenate": call(lambda a, b: torch.concatenate([a, b], 1), M, M),
    "stack": call(lambda a, b: torch.stack([a, b], 1), M, M),
    "dropout, evaluation": call(lambda x: F.dropout(x, 0.5, False) * torch.dropout(x, 0.5, train=False), M),
    **{
        name: call(lambda x, name=name: getattr(F, name)(x, 0.5, training=False) * 2, (2, 3, *side))
        for name, side in {
            "dropout1d": V,
            "dropout2d": (2, 2),
            "dropout3d": (2, 2, 2),
            "alpha_dropout": V,
            "feature_alpha_dropout": V,
        }.items()
    },
}

# -------------------------------------------------------------------------------------- written row by row

ARITHMETIC = {
    "add": call(lambda a, b: a + b, M, V),
    "add, alpha": call(lambda a, b: torch.add(a, b, alpha=-0.3), (3, 1), V),
    "add, named": call(lambda a, b: a.add(other=b, alpha=2), M, M),
    "add, a number": call(lambda a: 2 + a, M),
    "sub": call(lambda a, b: a - b, V, M),
    "sub, alpha": call(lambda a, b: a.sub(b, alpha=3) + torch.sub(b, a), M, V),
    "sub, small integers": call(lambda a: a - torch.arange(4, dtype=torch.uint8), M),
    "subtract": call(lambda a, b: a.subtract(b) + torch.subtract(a, b, alpha=2), M, M),
    "rsub": call(lambda a: 1 - a, M),
    "rsub, alpha": call(lambda a, b: torch.rsub(a, b, alpha=2), M, V),
    "mul": call(lambda a, b: a * b, (3, 1), V),
    "mul, itself": call(lambda a: a * a, M),
    "mul, others": call(lambda a, b: 2 * torch.mul(a, b) * a.mul(b), M, V),
    "mul, a mask": call(lambda a: ROWS * a, M),
    "multiply": call(lambda a, b: a.multiply(b) + torch.multiply(a, b), M, V),
    "div": call(lambda a, b: a / b, M, V, positive=True),
    "div, others": call(lambda a, b: torch.div(a, b) + a.div(2) + torch.div(1, b), M, M, positive=True),
    "divide": call(lambda a, b: a.divide(b) + torch.divide(a, b), M, V, positive=True),
    "true_divide": call(lambda a, b: a.true_divide(b) + torch.true_divide(a, b), M, V, positive=True),
    "rdiv": call(lambda a: 3 / a, M, positive=True),
    "a number times a matrix": call(lambda a, b: a * b + a / (b * b + 1), (), M),
    "addcmul": call(lambda c, a, b: torch.addcmul(c, a, b, value=0.5), M, V, (3, 1)),
    "addcmul, method": call(lambda c, a, b: c.addcmul(a, b), M, M, M),
    "where": call(lambda a, b: torch.where(ROWS, a, b), M, V),
    "where, method": call(lambda a, b: a.where(ROWS, b), M, ()),
    "where, a number": call(lambda a: torch.where(a > 0, a, 0.0) + torch.where(a > 0, 1.0, a), M),
    "masked_fill": call(lambda a: torch.masked_fill(a, ROWS, -2), V),
    "masked_fill, named": call(lambda a: a.masked_fill(mask=ROWS, value=float("-inf")).exp(), M),
}

PRODUCTS = {
    "matmul": call(lambda a, b: torch.matmul(a, b), (2, 3, 4), (4, 5)),
    "matmul, vectors": call(lambda a, b: a @ b, V, V),
    "matmul, method": call(lambda a, b: a.matmul(b), M, V),
    "rmatmul": call(lambda a: Tensor.__rmatmul__(a, constant(2, 3).to(a)), M),
    "mm": call(lambda a, b: torch.mm(a, b) + a.mm(b), M, N),
    "bmm": call(lambda a, b: torch.bmm(a, b) + a.bmm(b), (2, 3, 4), (2, 4, 3)),
    "mv": call(lambda a, b: torch.mv(a, b) + a.mv(b), M, V),
    "dot": call(lambda a, b: torch.dot(a, b) + a.dot(b), V, V),
    "outer": call(lambda a, b: torch.outer(a, b) + a.outer(b), V, V),
    "inner": call(torch.inner, M, (2, 4)),
    "vecdot": call(lambda a, b: torch.linalg.vecdot(a, b, dim=0), M, M),
    "einsum": call(lambda a, b, c: torch.einsum("ij,jk,ik->i", a, b, c), M, N, (3, 3)),
    "einsum, a list": call(lambda a, b: torch.einsum("...j,j", [a, b]), M, V),
    "einsum, itself": call(lambda a: torch.einsum("ij,ij->", a, a), M),
    "addmm": call(lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), (3,), M, N),
    "addmm, method": call(lambda c, a, b: c.addmm(a, b), (3, 3), M, N),
    "addmv": call(lambda c, a, b: torch.addmv(c, a, b, alpha=2) + c.addmv(a, b), (3,), M, V),
    "baddbmm": call(lambda c, a, b: torch.baddbmm(c, a, b, beta=2), (2, 3, 3), (2, 3, 4), (2, 4, 3)),
    "baddbmm, method": call(lambda c, a, b: c.baddbmm(a, b), (3, 3), (2, 3, 4), (2, 4, 3)),
    "linear": call(F.linear, (2, 3, 4), (5, 4), (5,)),
    "linear, no bias": call(F.linear, V, (5, 4)),
    "linear, a vector": call(lambda x, w: F.linear(x, w), M, V),
    "conv1d": call(lambda x, w, b: F.conv1d(x, w, b, stride=2), (2, 3, 7), (4, 3, 3), (4,)),
    "conv2d": call(lambda x, w, b: F.conv2d(x, w, b, 1, 1), (2, 3, 5, 5), (4, 3, 3, 3), (4,)),
    "conv2d, groups": call(
        lambda x, w: F.conv2d(x, w, groups=2, dilation=2, padding="same"), (1, 4, 6, 6), (4, 2, 3, 3)
    ),
    "conv2d, one image": call(lambda x, w, b: F.conv2d(x, w, bias=b), (3, 5, 5), (4, 3, 3, 3), (4,)),
    "conv2d, channels last": call(F.conv2d, (2, 3, 5, 5), (4, 3, 3, 3), channels_last=True),
    "conv3d": call(F.conv3d, (1, 2, 3, 3, 3), (2, 2, 2, 2, 2), (2,)),
    "conv_transpose1d": call(lambda x, w, b: F.conv_transpose1d(x, w, b, 2), (2, 3, 4), (3, 2, 3), (2,)),
    "conv_transpose2d": call(
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, output_padding=1),
        (1, 2, 3, 3),
        (2, 2, 3, 3),
        (2,),
    ),
    "conv_transpose3d": call(F.conv_transpose3d, (1, 2, 2, 2, 2), (2, 1, 2, 2, 2), (1,)),
    "embedding": call(lambda w: F.embedding(torch.tensor([[0, 2], [2, 0]]), w, padding_idx=1), M),
}

POOLING = {
    "max_pool1d": call(lambda x: F.max_pool1d(x, 2, stride=1), (2, 3, 6)),
    "max_pool2d": call(lambda x: F.max_pool2d(x, 2), (2, 3, 5, 5)),
    "max_pool2d, channels last": call(lambda x: F.max_pool2d(x, 3, 2, 1), (2, 3, 6, 6), channels_last=True),
    "max_pool3d": call(lambda x: F.max_pool3d(x, 2), (1, 2, 4, 4, 4)),
    "adaptive_max_pool1d": call(lambda x: F.adaptive_max_pool1d(x, 2), (2, 3, 5)),
    "adaptive_max_pool2d": call(lambda x: F.adaptive_max_pool2d(x, (2, 1)), (2, 3, 5, 5)),
    "adaptive_max_pool3d": call(lambda x: F.adaptive_max_pool3d(x, 2), (1, 2, 4, 4, 4)),
}

IMAGES, STATISTICS = (2, 4, 3, 3), (torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor([0.5, 1.0, 2.0, 1.5]))


def _batch_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, **options: Any
) -> Tensor:
    mean, variance = (value.to(x.dtype) for value in STATISTICS)
    return F.batch_norm(x, mean, variance, weight, bias, **options)


NORMALIZATION = {
    "layer_norm": call(lambda x, w, b: F.layer_norm(x, (4,), w, b), (2, 3, 4), V, V),
    "layer_norm, transposed": call(lambda x, b: F.layer_norm(x.mT, (3,), None, b), (2, 3, 4), (3,)),
    "group_norm": call(lambda x, w, b: F.group_norm(x, 2, w, b), IMAGES, V, V),
    "group_norm, sequence": call(lambda x, b: F.group_norm(x, 4, bias=b, eps=0.1), (2, 4, 3), V),
    "batch_norm": call(_batch_norm, IMAGES, V, V),
    "batch_norm, rows": call(lambda x, w: _batch_norm(x, w, eps=0.1), (3, 4), V),
    "instance_norm": call(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), IMAGES, V, V),
    "instance_norm, running": call(
        lambda x: F.instance_norm(x, *(v.to(x.dtype) for v in STATISTICS), use_input_stats=False), IMAGES
    ),
    "rms_norm": call(lambda x, w: F.rms_norm(x, (4,), w), (2, 3, 4), V),
    "rms_norm, two axes": call(lambda x: F.rms_norm(x, [3, 4], eps=0.1), (2, 3, 4)),
    "softmax": call(
        lambda x: F.softmax(x, 0) + F.softmax(x, dim=-1) + torch.softmax(x, 1) + x.softmax(-1), M
    ),
    "softmax, a dtype": call(lambda x: F.softmax(x, dim=-1, dtype=torch.float64), M),
    "log_softmax": call(
        lambda x: F.log_softmax(x, 0) + F.log_softmax(x, dim=1) + torch.log_softmax(x, 1) + x.log_softmax(-1),
        M,
    ),
}

attend = F.scaled_dot_product_attention
HEADS = (2, 3, 5, 4)
CAUSAL = torch.ones(5, 5, dtype=torch.bool).tril()
PADDING = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]).view(2, 1, 1, 5)

ATTENTION = {
    "attention": call(attend, HEADS, HEADS, HEADS),
    "attention, other lengths": call(
        lambda q, k, v: attend(q, k, v, scale=0.3), HEADS, (2, 3, 6, 4), (2, 3, 6, 2)
    ),
    "attention, causal": call(lambda q, k, v: attend(q, k, v, is_causal=True), HEADS, HEADS, HEADS),
    "attention, padding": call(lambda q, k, v: attend(q, k, v, attn_mask=PADDING), HEADS, HEADS, HEADS),
    "attention, all masked": call(lambda q, k, v: attend(q, k, v, PADDING & ~CAUSAL), HEADS, HEADS, HEADS),
    "attention, added": call(lambda q, k, v: attend(q, k, v, constant(5, 5).to(q)), HEADS, HEADS, HEADS),
    "attention, grouped": call(
        lambda q, k, v: attend(q, k, v, enable_gqa=True), (2, 4, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)
    ),
    "attention, no batch": call(attend, (5, 4), (5, 4), (5, 4)),
}

LOSSES = {
    **{
        f"mse_loss, {reduction}": call(lambda x, y, r=reduction: F.mse_loss(x, y, reduction=r), M, M)
        for reduction in ("mean", "sum", "none")
    },
    **{
        f"cross_entropy, {reduction}": call(
            lambda x, r=reduction: F.cross_entropy(x, LABELS, reduction=r, weight=constant(4).exp().to(x)), M
        )
        for reduction in ("mean", "sum", "none")
    },
    **{
        f"nll_loss, {reduction}": call(lambda x, r=reduction: F.nll_loss(x, LABELS, reduction=r), M)
        for reduction in ("mean", "sum", "none")
    },
}

FAMILIES = {
    "elementwise": ELEMENTWISE,
    "linear": LINEAR,
    "arithmetic": ARITHMETIC,
    "products": PRODUCTS,
    "pooling": POOLING,
    "normalization": NORMALIZATION,
    "attention": ATTENTION,
    "losses": LOSSES,
}
