"""Torch's own database of its operators, as functions of what in their samples can move.

``op_db`` has, for nearly every operator of torch, samples of arguments that cover its options, and says what
the operator can do. It is pinned with torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_leaves, tree_unflatten

__all__ = ["OPERATORS", "Case", "cases", "name_of"]

F64 = torch.float64
#: Of an operator with more samples, those behind the first are left out that combine no two options anew:
#: pooling has every combination of its eight options, which is 1,440 samples.
MANY = 30
#: The numbers in a sample from which on it is left out. One operator has such, of which smaller samples have
#: the same options.
LARGE = 50_000


def name_of(op: OpInfo) -> str:
    return " ".join(filter(None, (op.name, op.variant_test_name)))


def _differentiable(op: OpInfo) -> bool:
    return F64 in op.dtypes and (op.supports_autograd or op.supports_forward_ad)


#: All that torch can differentiate in float64, in one way or the other.
OPERATORS: dict[str, OpInfo] = {name_of(op): op for op in op_db if _differentiable(op)}


@dataclass(frozen=True)
class Case:
    """``f`` of the ``point``: the operator applied to a sample, in which all dense float64 tensors move."""

    f: Callable[[tuple[Tensor, ...]], Any]
    point: tuple[Tensor, ...]


def cases(op: OpInfo, variant: Callable[..., Any] | None = None, most: int | None = None) -> Iterator[Case]:
    """The samples of ``op`` in which something moves (see ``MANY`` and ``LARGE``), the first ``most`` of
    them, as calls of ``variant`` (a method or an in-place method; None = the function)."""
    call = variant or op.op
    with warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        samples = _unlike(op.sample_inputs_func(op, torch.device("cpu"), F64, False))
        for _, sample in zip(range(most or 10**6), samples, strict=False):
            case = _case(call, sample)
            if case.point:
                yield case


def _unlike(samples: Iterable[SampleInput]) -> Iterator[SampleInput]:
    seen = set[Any]()
    for number, sample in enumerate(samples):
        leaves, _ = tree_flatten_with_path((sample.input, sample.args, sample.kwargs))
        options = [(keystr(path), _option(leaf)) for path, leaf in leaves]
        pairs = set(combinations(options, 2))
        small = sum(leaf.numel() for _, leaf in leaves if isinstance(leaf, Tensor)) < LARGE
        if small and (number < MANY or not pairs <= seen):
            seen |= pairs
            yield sample


def _option(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype, leaf.layout) if isinstance(leaf, Tensor) else repr(leaf)


def _case(call: Callable[..., Any], sample: SampleInput) -> Case:
    leaves, structure = tree_flatten((sample.input, sample.args, sample.kwargs))
    moving = [i for i, leaf in enumerate(leaves) if _moves(leaf)]

    def f(point: tuple[Tensor, ...]) -> Any:
        filled = list(leaves)
        for i, value in zip(moving, point, strict=True):
            filled[i] = value
        input, args, kwargs = tree_unflatten(filled, structure)
        result = call(input, *args, **kwargs)
        return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

    return Case(f, tuple(leaves[i] for i in moving))


def _moves(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype == F64 and leaf.layout is torch.strided
