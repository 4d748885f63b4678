"""What tensors a saved adapter or task must have, and what its config must hold: decided here, for saving and
for loading.

    origin [P]   basis [P, k] or [P]   log_precision [k]   log_damping []   log_rates [k]   log_sharpness []
    z [k]   losses [s]   head_state (as its head says)   parameters.<name> (those that the space adapts)
    what :mod:`adapt.adapter.known` writes of a task that has a posterior

P is the size of the space, k is that of the basis. All are real numbers, finite but where a logarithm of 0
stands for something. Nothing else may be there.
"""

import hashlib
import json
from collections.abc import Mapping
from math import inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.known import POSTERIOR, check_known
from adapt.adapter.state import AdapterState
from adapt.errors import AdaptError
from adapt.heads import Head
from adapt.heads.base import state_shape
from adapt.spaces import Space, Subspace

__all__ = [
    "DECIDING",
    "PARAMETERS",
    "check_arrived",
    "check_head_state",
    "check_state",
    "check_task",
    "classes_of",
    "cost_of",
    "decisive_sha256",
    "entry",
]

#: How the names of adapted tensors begin.
PARAMETERS = "parameters."
#: Entries of a config that predictions follow from, besides the tensors.
DECIDING = (
    *(
        "kind",
        "backbone",
        "input_shape",
        "space",
        "loss",
        "support_head",
        "head",
        "solver",
        "calibration",
        "match",
    ),
    *("classes", "classes_dtype"),
)
#: Bytes of the labels of a task, as an array.
LARGEST_LABELS = 1 << 28


class Wanted(NamedTuple):
    """A tensor that must be there: its shape (None: any size), and the infinities that mean something."""

    shape: tuple[int | None, ...]
    infinite: tuple[float, ...] = ()


def check_state(where: Path, tensors: Mapping[str, Tensor], space: Space) -> None:
    """Refuse ``tensors`` that are not those of an adapter in ``space``.

    Raises:
        AdaptError: a tensor is missing, unknown, of another shape or dtype, or holds what it must not.
    """
    _check(where, tensors, _state(tensors, space), "adapter")


def check_task(where: Path, tensors: Mapping[str, Tensor], space: Space, head: Head, outputs: int) -> None:
    """The same of a task with so many ``outputs``: the adapter's tensors, and its own.

    Adapted tensors are either the space's own, or those of the backbone that it makes of them.
    """
    state = _state(tensors, space)
    k = tensors["basis"].shape[-1] if "basis" in state and "basis" in tensors else None
    shape = state_shape(head, None, outputs)
    any_shape = tuple(None for _ in getattr(tensors.get("head_state"), "shape", ()))
    own = {
        "z": Wanted((k,)),
        "losses": Wanted((None,), (inf, -inf)),
        "head_state": Wanted(any_shape if shape is None else shape),
    }
    if any(name in tensors for name in POSTERIOR):
        own |= {
            "precision": Wanted((k, k), (inf,)),  # a direction that is held
            "prior": Wanted((k,), (inf,)),
            "scales": Wanted((3,)),
        }
    if any(name.startswith("memory.") for name in tensors):
        own |= {
            "memory.base": Wanted((None, None)),
            "memory.columns": Wanted((k if "precision" in tensors else 0, None, None)),
            "memory.targets": Wanted((None, outputs)),
        }
    found = {name.removeprefix(PARAMETERS) for name in tensors if name.startswith(PARAMETERS)}
    shapes = space.shapes if space.merge is None or found == set(space.shapes) else _merged(space)
    adapted = {PARAMETERS + name: Wanted(tuple(shape)) for name, shape in shapes.items()}
    _check(where, tensors, state | own | adapted, "fitted task")
    check_known(where, tensors)


def _state(tensors: Mapping[str, Tensor], space: Space) -> dict[str, Wanted]:
    basis = tensors.get("basis")
    diagonal = basis is not None and basis.ndim == 1
    k = space.size if basis is None or diagonal else basis.shape[-1] if basis.ndim else None
    return {
        "origin": Wanted((space.size,)),
        "basis": Wanted((space.size,) if diagonal else (space.size, k)),
        "log_precision": Wanted((k,), (inf, -inf)),  # a direction that does not move, or has no prior
        "log_damping": Wanted((), (-inf,)),  # none
        "log_rates": Wanted((k,), (-inf,)),
        "log_sharpness": Wanted(()),
        **({"router": Wanted((None, None))} if "router" in tensors else {}),
    }


def _merged(space: Space) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in space.parameters(space.initial).items()}


def _check(where: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Wanted], what: str) -> None:
    for name in wanted:
        if name not in tensors:
            raise AdaptError(f"{where} lacks '{name}': it is not a complete {what} folder, save it again")
    for name, value in tensors.items():
        if name not in wanted:
            raise AdaptError(f"{where} holds a tensor '{name[:80]}', which no {what} has here: save it again")
        if not _fits(wanted[name].shape, value) or not value.is_floating_point():
            sizes = ", ".join("any" if size is None else str(size) for size in wanted[name].shape)
            raise AdaptError(
                f"{where}: '{name}' is {value.dtype} {list(value.shape)}, but real numbers [{sizes}] are "
                "needed: it is damaged, or was made for something else"
            )
        strange = value[~torch.isfinite(value)]
        if any(number not in wanted[name].infinite for number in strange.unique().tolist()):
            raise AdaptError(f"{where}: '{name}' holds NaN or infinity: it is damaged, or training diverged")


def check_head_state(head: Head, state: Tensor, features: int, outputs: int) -> None:
    """Refuse a ``state`` of ``head`` that is not one of so many ``features``, which nobody knows before the
    backbone has run.

    Raises:
        AdaptError: another shape.
    """
    shape = state_shape(head, features, outputs)
    if shape is not None and not _fits(shape, state):
        raise AdaptError(
            f"head_state is {list(state.shape)}, which is none of {type(head).__name__} for {features} "
            f"features and {outputs} outputs: the saved task is damaged, or of another backbone"
        )


def _fits(shape: tuple[int | None, ...], value: Tensor) -> bool:
    found = tuple(value.shape)
    return len(found) == len(shape) and all(
        size in (None, here) for size, here in zip(shape, found, strict=True)
    )


def check_arrived(where: Path, tensors: Mapping[str, Tensor], space: Space, state: AdapterState) -> None:
    """Refuse adapted tensors that are not φ₀ + U z, but for rounding: for folders without a hash.

    Raises:
        AdaptError: a tensor is another.
    """
    like = state.origin
    found = {n.removeprefix(PARAMETERS): v for n, v in tensors.items() if n.startswith(PARAMETERS)}
    move = Subspace(space, like, state.basis).move(tensors["z"].to(like))
    own = space.tensors(like + move)
    due = own if set(found) == set(own) else space.merged(own)
    for name, value in due.items():
        accuracy = max(torch.finfo(tensor.dtype).eps for tensor in (value, found[name], tensors["origin"]))
        largest = float(value.abs().max()) if value.numel() else 0.0
        largest += float(move.abs().max()) if len(move) else 0.0
        difference = (found[name].to(value) - value).abs()
        if bool((difference > accuracy**0.5 * largest).any()):
            raise AdaptError(f"{where}: '{PARAMETERS}{name}' is not where z leads: one of them is damaged")


# ------------------------------------------------------------------------------------------ the config


def entry(path: Path, config: Mapping[str, Any], name: str, *kinds: type, none: bool = False) -> Any:
    """The entry of that name of a config, of one of ``kinds``, or null where it may be.

    Raises:
        AdaptError: it is missing, or of another type.
    """
    if name not in config:
        raise AdaptError(f"{path.parent} lacks '{name}': it is not a complete adapter folder, save it again")
    value = config[name]
    if (none and value is None) or (isinstance(value, kinds) and not isinstance(value, bool)):
        return value
    raise AdaptError(
        f"{path} holds a value of the wrong type ('{name}' is a {type(value).__name__}): the file is "
        "damaged, save it again"
    )


def classes_of(path: Path, config: Mapping[str, Any]) -> np.ndarray:
    """The labels of a task ``[C]``, sorted; none of a regression.

    Raises:
        AdaptError: they are no list of labels, a dtype that labels have not, or labels that it would change.
    """
    labels, written = entry(path, config, "classes", list), entry(path, config, "classes_dtype", str)
    try:
        dtype = np.dtype(written)
        plain = dtype.kind in "biufU" and dtype.subdtype is None and dtype.str == written
        if not plain or dtype.itemsize * max(len(labels), 1) > LARGEST_LABELS:
            raise TypeError(f"'classes_dtype' is {written[:40]}")
        classes = np.array(labels, dtype=dtype)
        if classes.ndim != 1 or [*map(_kept, classes.tolist())] != [*map(_kept, labels)]:
            raise TypeError(f"'classes' are no labels of type {written}")
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise AdaptError(
            f"{path} holds a value of the wrong type ({error}): the file is damaged, save it again"
        ) from None
    if not np.array_equal(np.unique(classes), classes):
        raise AdaptError(f"{path}: 'classes' are not sorted and distinct: the file is damaged, save it again")
    return classes


def _kept(label: Any) -> tuple[type, Any]:
    """Told apart: 1, 1.0 and True are equal."""
    return type(label), label


def decisive_sha256(config: Mapping[str, Any]) -> str:
    """Hash of what predictions follow from, besides the tensors."""
    deciding = {name: config[name] for name in DECIDING if name in config}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def cost_of(path: Path, config: Mapping[str, Any]) -> float:
    """What adapting cost, in forward equivalents.

    Raises:
        AdaptError: no finite number from 0 on.
    """
    cost = entry(path, config, "forward_equivalents", int, float)
    if not isfinite(cost) or cost < 0:
        raise AdaptError(f"{path}: forward_equivalents={cost} is no cost: the file is damaged, save it again")
    return float(cost)
