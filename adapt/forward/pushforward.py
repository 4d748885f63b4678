"""Push k tangents through a function in one forward pass.

Forward-mode differentiation (Wengert 1964; Baydin et al. 2018, section 3.1) carries, next to every
intermediate value u, its directional derivative u' = (du/dx) v. One pass yields f(x) and J·v without storing
activations. Carrying k tangents v_1 … v_k at once yields J·V, hence the whole Jacobian when the v_i are a
basis of the input space.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from adapt.budget import afford
from adapt.errors import AdaptError
from adapt.forward.errors import explain, let_fail
from adapt.forward.fast import fast
from adapt.forward.reference import reference
from adapt.forward.shared import divided, sharing
from adapt.forward.types import Function, Pytree

__all__ = ["ENGINES", "Engine", "directions", "pushforward"]

#: Errors that say what is meant, from any engine: those of this library, and of too little memory.
MEANT = (AdaptError, MemoryError, torch.OutOfMemoryError)
#: Interchangeable implementations of the pushforward.
Engine = Literal["fast", "reference", "compiled"]
ENGINES: tuple[Engine, ...] = ("fast", "reference", "compiled")


def directions(z: Tensor, first: int = 0, last: int | None = None) -> Tensor:
    """Tangents along the numbers ``first`` … ``last`` of ``z [k]``, each by itself: rows of the identity.

    Raises:
        TooLarge: more of them than memory holds.
    """
    k = len(z)
    last = k if last is None else last
    afford(f"a tangent along each of {last - first:,} numbers", (last - first) * k)
    rows = torch.zeros(last - first, k, dtype=z.dtype, device=z.device)  # unlike z the same in every task
    rows.diagonal(first).fill_(1)
    return rows


def pushforward(
    f: Function, x: Pytree, tangents: Pytree, *, engine: Engine = "fast", chunk: int | None = None
) -> tuple[Pytree, Pytree]:
    """Evaluate ``f(x)`` and its derivative along k tangents, exactly, in one forward pass.

    Args:
        f: pure function of one pytree of tensors.
        x: the point, a pytree of tensors.
        tangents: the same pytree with the k tangents stacked on a new leading axis of every leaf, ``[k, …]``;
            dtypes as in ``x``; k may be 0.
        engine: ``fast`` (the default) walks the tangents through f operator by operator and skips what does
            not depend on x; ``reference`` is torch's own ``vmap(jvp)``; ``compiled`` compiles that (under
            ``torch.no_grad``), which takes up to minutes once and pays for a function that is called often.
        chunk: for ``fast``: how many tangents travel as one batch; None = 1 on a CPU, k elsewhere.

    Returns:
        ``(f(x), J·V)``; every leaf of the second has the k tangents on its leading axis.

    Raises:
        AdaptError: a tangent whose shape or dtype does not fit its leaf of ``x``, or an operation in f that
            torch cannot differentiate forward. What f itself raises comes out unchanged.

    Where the fast engine fails, for whatever reason, the reference runs f again from the same x. (Whether f
    has written to other tensors by then does not matter: the reference refuses such an f.)

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
    if engine not in ENGINES:
        raise AdaptError(f"engine={engine!r} is not known: choose {', '.join(ENGINES)}")
    _check(x, tangents)
    if sharing().count > 1:
        return divided(lambda mine: pushforward(f, x, mine, engine=engine, chunk=chunk), tangents)
    if torch.is_inference_mode_enabled():  # which switches forward mode off
        with torch.inference_mode(False), torch.no_grad():
            return pushforward(f, x, tangents, engine=engine, chunk=chunk)
    if all(len(column) == 0 for column in tree_leaves(tangents)):  # vmap cannot map over nothing
        value = f(x)
        return value, tree_map(lambda leaf: leaf.new_zeros(0, *leaf.shape), value)
    if engine == "compiled":
        from adapt.forward.compiled import compiled  # torch's compiler takes a second to import

        return compiled(f, x, tangents)
    refusal = None
    if engine == "fast":
        try:
            return fast(f, x, tangents, chunk)
        except MEANT:
            raise
        except Exception as error:  # of the engine or of f: the reference will tell
            refusal = error
    try:
        return reference(f, x, tangents)
    except (*MEANT, Warning):  # a warning that the caller made an error of says nothing of derivatives
        raise
    except Exception as error:
        failure = error
    let_fail(f, x)
    raise explain(failure, refusal) from failure


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
