"""Push k tangents through a function in one forward pass (reference implementation).

Forward-mode differentiation (Wengert 1964; Baydin et al. 2018, section 3.1) carries, next to every
intermediate value u, its directional derivative u' = (du/dx) v. One pass yields f(x) and J·v without storing
activations. Carrying k tangents v_1 … v_k at once yields J·V, hence the whole Jacobian when the v_i are a
basis of the input space.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.func import jvp, vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from adapt.errors import AdaptError

__all__ = ["pushforward"]

Pytree = Any


def pushforward(f: Callable[[Pytree], Pytree], x: Pytree, tangents: Pytree) -> tuple[Pytree, Pytree]:
    """Evaluate ``f(x)`` and its derivative along k tangents, exactly, in one forward pass.

    Args:
        f: pure function of one pytree of tensors.
        x: the point, a pytree of tensors.
        tangents: the same pytree with the k tangents stacked on a new leading axis of every leaf, ``[k, …]``;
            dtypes as in ``x``; k may be 0.

    Returns:
        ``(f(x), J·V)``; every leaf of the second has the k tangents on its leading axis.

    Raises:
        AdaptError: a tangent whose shape or dtype does not fit its leaf of ``x``.

    References:
        Baydin, Pearlmutter, Radul, Siskind (2018), *Automatic Differentiation in Machine Learning: a Survey*,
        section 3.1.

    Example:
        >>> import torch
        >>> value, columns = pushforward(lambda z: z**2, torch.tensor([1.0, 3.0]), torch.eye(2))
        >>> columns
        tensor([[2., 0.],
                [0., 6.]])
    """
    _check(x, tangents)
    if all(len(column) == 0 for column in tree_leaves(tangents)):  # vmap cannot map over nothing
        value = f(x)
        return value, tree_map(lambda leaf: leaf.new_zeros(0, *leaf.shape), value)

    def along(v: Pytree) -> tuple[Pytree, Pytree]:
        result = jvp(f, (x,), (v,))
        return result[0], result[1]

    # The value does not depend on the tangent: vmap computes it once and hands it out as k views of the same
    # memory. (``out_dims=None`` would say so, but is refused under an outer vmap, as over tasks.)
    values, columns = vmap(along)(tangents)
    value = tree_map(lambda leaf: leaf[0], values)
    # torch 2.13: the float32 tangent of a number (shape []) that meets a Python float under vmap is float64.
    return value, tree_map(lambda column, leaf: column.to(leaf.dtype), columns, value)


def _check(x: Pytree, tangents: Pytree) -> None:
    points, structure = tree_flatten(x)
    columns, column_structure = tree_flatten(tangents)
    if structure != column_structure:
        raise AdaptError(
            f"tangents have the structure {column_structure} but x has {structure}: stack one "
            "tangent per leaf of x"
        )
    for point, column in zip(points, columns, strict=True):
        _check_leaf(point, column)


def _check_leaf(point: Tensor, column: Tensor) -> None:
    if column.shape[1:] != point.shape:
        raise AdaptError(
            f"tangents of shape {tuple(column.shape)} do not fit x of shape {tuple(point.shape)}: "
            f"expected [k, {', '.join(map(str, point.shape))}]"
        )
    if column.dtype != point.dtype:
        raise AdaptError(
            f"tangents are {column.dtype} but x is {point.dtype}: forward mode needs the same "
            "dtype, convert one of them"
        )
