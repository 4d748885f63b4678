"""A hash of a network's weights: proof that nothing touched them, and the key by which an adapter knows its
backbone.

Most state is dense tensors, and of these the hash is over their bytes. What else a state dict may hold
(packed weights of quantised layers, sparse tensors, what ``get_extra_state`` returns) is taken apart until
nothing but dense tensors and plain values is left, each under a name that says where it stood.
"""

import dataclasses
import enum
import hashlib
import io
from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adapt.errors import AdaptError
from adapt.hashes import bytes_of

__all__ = ["check_state", "fingerprint"]

#: Values whose ``repr`` says everything there is to say of them, in every process.
PLAIN = (
    *(bool, int, float, complex, str, bytes, range, type(None), enum.Enum, np.generic),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.qscheme),
)
#: What else a sparse tensor is made of, by layout.
SPARSE = {
    torch.sparse_coo: ("indices", "values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}
#: A piece of state: what is said of it, and its bytes if it is a tensor.
Leaf = tuple[str, Tensor | None]


def fingerprint(module: nn.Module) -> str:
    """sha256 (hex) over names, dtypes, shapes and bytes of all parameters and buffers, and whatever else the
    state dict holds; independent of device and of memory layout.

    Raises:
        AdaptError: state that cannot be hashed, see :func:`check_state`.

    Example:
        >>> from torch import nn
        >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> fingerprint(a) == fingerprint(a), fingerprint(a) == fingerprint(b)
        (True, False)
    """
    digest = hashlib.sha256()
    for text, tensor in _state(module):
        digest.update(text.encode())
        if tensor is not None and tensor.numel():
            digest.update(bytes_of(tensor))
    return digest.hexdigest()


def check_state(module: nn.Module) -> None:
    """Refuse a module whose :func:`fingerprint` cannot be taken; costs next to nothing.

    Raises:
        AdaptError: weights without values, or an object of which nothing is known in its state.
    """
    for _ in _state(module):
        pass


def _state(module: nn.Module) -> Iterator[Leaf]:
    for name, value in sorted(module.state_dict().items(), key=lambda item: item[0]):
        yield from _leaves(name, value)


def _leaves(name: str, value: Any) -> Iterator[Leaf]:
    """``value`` taken apart."""
    if isinstance(value, Tensor):
        yield from _tensor(name, value)
    elif isinstance(value, PLAIN):
        yield f"{name} {type(value).__name__} {value!r}\n", None
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biufcSU":
        yield f"{name} ndarray {value.dtype.str} {value.shape} {value.tobytes().hex()}\n", None
    elif isinstance(value, io.BytesIO):
        yield f"{name} BytesIO {value.getvalue()!r}\n", None
    elif isinstance(value, Mapping):
        yield f"{name} mapping {len(value)}\n", None
        for key in sorted(value, key=lambda key: (type(key).__name__, repr(key))):
            yield from _leaves(f"{name}[{_key(name, key)}]", value[key])
    elif isinstance(value, tuple | list | deque):
        yield f"{name} sequence {len(value)}\n", None
        for place, entry in enumerate(value):
            yield from _leaves(f"{name}[{place}]", entry)
    elif isinstance(value, Set):
        yield f"{name} set {sorted(_key(name, entry) for entry in value)}\n", None
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield f"{name} {type(value).__name__}\n", None
        for field in dataclasses.fields(value):
            yield from _leaves(f"{name}.{field.name}", getattr(value, field.name))
    elif isinstance(value, torch.ScriptObject):  # packed weights of quantised layers
        yield f"{name} {value._type().qualified_name()}\n", None
        yield from _leaves(name, value.__getstate__())
    else:
        raise AdaptError(
            f"backbone.{name} holds a value of type {type(value).__name__}, of which no hash can be taken, "
            "so that nobody could tell whether it is the same: let get_extra_state return tensors, numbers, "
            "strings, or lists and dictionaries of them"
        )


def _key(name: str, value: Any) -> str:
    """A key of a mapping or member of a set, which may be plain values and tuples of them."""
    return repr([text for text, _ in _leaves(name, value)])


def _tensor(name: str, value: Tensor) -> Iterator[Leaf]:
    """A tensor as dense ones that are no longer quantised."""
    if is_lazy(value) or value.is_meta:
        raise AdaptError(f"backbone.{name} has no values: load the weights, or pass one batch first")
    value = value.detach()
    if value.is_quantized:
        yield f"{name} {value.dtype} {value.qscheme()}\n", None
        if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield f"{name} {value.q_scale()!r} {value.q_zero_point()}\n", None
        else:
            yield f"{name} along {value.q_per_channel_axis()}\n", None
            yield from _tensor(f"{name}.scales", value.q_per_channel_scales())
            yield from _tensor(f"{name}.zero_points", value.q_per_channel_zero_points())
        yield from _tensor(name, value.int_repr())
    elif value.layout in SPARSE:
        if value.layout is torch.sparse_coo:
            value = value.coalesce()
        yield f"{name} {value.layout} {tuple(value.shape)}\n", None
        for part in SPARSE[value.layout]:
            yield from _tensor(f"{name}.{part}", getattr(value, part)())
    elif value.is_nested:
        yield f"{name} nested\n", None
        for place, entry in enumerate(value.unbind()):
            yield from _tensor(f"{name}[{place}]", entry)
    elif hasattr(value, "__tensor_flatten__"):  # a subclass around other tensors
        inner, context = value.__tensor_flatten__()
        yield f"{name} {type(value).__name__} {tuple(value.shape)}\n", None
        yield from _leaves(f"{name}.context", context)
        for attribute in inner:
            yield from _tensor(f"{name}.{attribute}", getattr(value, attribute))
    else:
        dense = value if value.layout is torch.strided else value.to_dense()  # of oneDNN
        yield f"{name} {dense.dtype} {tuple(dense.shape)}\n", dense
