"""The default rule, of operations that have no other: their own Python body where there is one, else torch's
``jvp`` of that one operation."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from adapt.forward.bodies import body
from adapt.forward.custom import TangentGuard
from adapt.forward.errors import NotDifferentiable, Unsupported, operation_name
from adapt.forward.fast.dual import RULES, Dual, primal, wrap
from adapt.forward.kernels import ONE_AT_A_TIME, differentiable_kernels

__all__ = ["dense", "differentiate", "fallback", "listener"]

#: Told of every function that torch differentiates by itself (``adapt.forward.preflight`` listens).
listener: ContextVar[Callable[[Any], None] | None] = ContextVar("listener", default=None)


def fallback(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of ``func`` with its tangents, for any torch function.

    Raises:
        Unsupported: torch has no forward derivative of it.
        NotDifferentiable: a random one; a custom operator that drops tangents, which the reference would
            take for zeros.
    """
    if (written := body(func)) is not None:
        return written(*args, **kwargs)
    if (name := getattr(func, "__name__", "")).endswith("_") and (name == "__set__" or name[-2] != "_"):
        raise Unsupported(operation_name(func), "it changes its operand; write it out of place")
    if (listening := listener.get()) is not None:
        listening(func)
    leaves, structure = tree_flatten((tuple(args), dict(kwargs)))
    moving = [i for i, leaf in enumerate(leaves) if type(leaf) is Dual]
    constants = [primal(leaf) for leaf in leaves]

    def of_moving(*values: Tensor) -> Any:
        filled = list(constants)
        for i, value in zip(moving, values, strict=True):
            filled[i] = value
        positional, named = tree_unflatten(filled, structure)
        return func(*positional, **named)

    points = tuple(dense(constants[i]) for i in moving)
    try:
        value, columns = _columns(func, of_moving, points, [leaves[i].tangents for i in moving])
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise Unsupported(operation_name(func), str(error).split("\n")[0]) from error
    return value if columns is None else _wrap(value, columns)


def differentiate(
    f: Callable[..., Any], points: tuple[Tensor, ...], directions: tuple[Tensor, ...]
) -> tuple[Any, Any]:
    """Torch's ``jvp`` of one operation, one at a time: all threads share its levels (torch 2.13), and the
    first that leaves one takes the tangents of the others with it."""
    with ONE_AT_A_TIME:
        result = jvp(f, points, directions)
    return result[0], result[1]


def dense(value: Tensor) -> Tensor:
    """``value`` with memory of its own for every number: torch's ``jvp`` takes no expanded tensors."""
    return value.clone() if 0 in value.stride() else value


def _columns(
    func: Any, f: Callable[..., Any], points: tuple[Tensor, ...], tangents: list[Sequence[Tensor]]
) -> tuple[Any, list[Any] | None]:
    """``f(points)`` and its k tangents; None in place of these where nothing in it is a number."""

    def along(directions: Sequence[Tensor]) -> tuple[Any, Any]:
        return differentiate(f, points, tuple(directions))

    with differentiable_kernels(), TangentGuard():
        value = f(*points)
        if not any(isinstance(leaf, Tensor) for leaf in tree_flatten(value)[0]):
            return value, None
        try:
            _, stacked = vmap(along)(tuple(torch.stack(list(columns)) for columns in tangents))
            leaves, structure = tree_flatten(stacked)
            count = len(tangents[0])
            return value, [tree_unflatten([leaf[j] for leaf in leaves], structure) for j in range(count)]
        except (RuntimeError, NotImplementedError) as error:  # it may know jvp, and not vmap
            if "random operation" in str(error):  # every direction would see another f
                raise
            results = [along(directions) for directions in zip(*tangents, strict=True)]
        if not all(_same(again, value) for again, _ in results):  # what vmap knows, it refuses by itself
            raise NotDifferentiable(
                operation_name(func), "random operation: its value is another in each call"
            )
        return value, [column for _, column in results]


def _same(a: Any, b: Any) -> bool:
    """Whether all tensors in them are equal, NaN to NaN."""
    pairs = zip(tree_flatten(a)[0], tree_flatten(b)[0], strict=True)
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs if isinstance(x, Tensor))


def _wrap(value: Any, columns: list[Any]) -> Any:
    leaves, structure = tree_flatten(value)
    tangents = [tree_flatten(column)[0] for column in columns]
    wrapped = [wrap(leaf, [column[i] for column in tangents]) for i, leaf in enumerate(leaves)]
    return tree_unflatten(wrapped, structure)


RULES.default = lambda func, *args, **kwargs: fallback(func, args, kwargs)
