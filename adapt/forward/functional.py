"""A module called with other tensors than its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["functional"]


def functional(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    args: tuple[Any, ...],
    named: dict[str, Any] | None = None,
) -> Any:
    """``torch.func.functional_call``, also of a network that uses a module twice: torch swaps the tensors of
    such a module once for each of its names, and leaves swapped ones behind.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 2)
        >>> both = nn.Sequential(layer, nn.ReLU(), layer)
        >>> found = functional(both, {"0.bias": torch.ones(2)}, (torch.zeros(1, 2),))
        >>> layer.bias is both[2].bias and isinstance(layer.bias, nn.Parameter)
        True
    """
    modules = [each for _, each in module.named_modules(remove_duplicate=False)]
    if len(modules) == len({id(each) for each in modules}):
        return functional_call(module, dict(tensors), args, named)
    names: dict[int, list[str]] = {}
    for path, each in module.named_modules():
        for local, tensor in [*each._parameters.items(), *each._buffers.items()]:
            if tensor is not None:
                names.setdefault(id(tensor), []).append(f"{path}.{local}" if path else local)
    tied = dict(tensors)
    for same in names.values():
        given = next((tensors[name] for name in same if name in tensors), None)
        tied |= {} if given is None else dict.fromkeys(same, given)
    return functional_call(module, tied, args, named, tie_weights=False)
