"""What can be said of a backbone without calling it: whether it is a plain module whose weights have
values."""

import copy
from collections.abc import Iterator
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adapt.errors import AdaptError

__all__ = ["check_structure", "device_of", "duplicate", "evidence", "tensors_of"]

#: Wrappers that cannot run with other parameters than their own, by the names of their classes (importing
#: some of them is slow), and what to pass instead.
WRAPPERS = {
    "DataParallel": "pass the module inside, backbone.module",
    "DistributedDataParallel": "pass the module inside, backbone.module",
    "FullyShardedDataParallel": "pass the module before it is sharded",
    "OptimizedModule": "pass the module inside, backbone._orig_mod (the engines compile by themselves)",
}


def check_structure(backbone: nn.Module) -> None:
    """Refuse what is no plain module with values.

    Raises:
        AdaptError: no module; one that is wrapped for several devices, compiled or scripted; weights that
            have no values yet (lazy, or on the device ``meta``).
    """
    if not isinstance(backbone, nn.Module):
        raise AdaptError(
            f"backbone is a {type(backbone).__name__}, not an nn.Module: wrap it in a module whose forward "
            "calls it"
        )
    for path, module in backbone.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        fix = next((fix for name, fix in WRAPPERS.items() if name in kinds), None)
        if isinstance(module, torch.jit.ScriptModule):
            fix = "pass the module that it was made of"
        if fix is not None:
            inside = fix.replace("backbone.", f"backbone.{path}.") if path else fix
            raise AdaptError(
                f"{_named(path, module)} is a wrapper that cannot run with adapted parameters: {inside}"
            )
        for name, tensor in tensors_of(module):
            if is_lazy(tensor):
                raise AdaptError(
                    f"{_named(path, module)} is lazy, its {name} has no values yet: call the backbone once "
                    "on a batch of examples, before spaces and adapters are made of it"
                )
            if tensor.is_meta:
                raise AdaptError(
                    f"{_named(path, module)} has no values, its {name} is on device meta: call "
                    "to_empty(device=…) and load the weights first"
                )


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers that ``module`` itself holds."""
    for tensors in (module._parameters, module._buffers):
        yield from ((name, tensor) for name, tensor in tensors.items() if tensor is not None)


def device_of(backbone: nn.Module) -> torch.device:
    """Where the backbone computes: the device of its first parameter or buffer; the CPU if it has none."""
    for module in backbone.modules():
        for _, tensor in tensors_of(module):
            return tensor.device
    return torch.device("cpu")


def duplicate(backbone: nn.Module, more: Any = None) -> tuple[nn.Module, Any]:
    """Copies of ``backbone`` and of what refers to it, that share nothing with the originals.

    Weights that are computed from others (``nn.utils.weight_norm``) are copied by value, which torch would
    not do.

    Raises:
        Exception: what a module that cannot be copied raises.
    """
    attributes = [value for module in backbone.modules() for value in vars(module).values()]
    computed = {
        id(value): value.detach().clone()
        for value in attributes
        if isinstance(value, Tensor) and not value.is_leaf
    }
    copied: tuple[nn.Module, Any] = copy.deepcopy((backbone, more), computed)
    return copied


#: Attributes of these types may be what a network decides by.
SWITCHES = (bool, int, float, str, type(None))


def evidence(backbone: nn.Module) -> tuple[Any, ...]:
    """What is compared to tell whether a network has changed: parts, modes and other switches, hooks,
    weights."""
    found: list[Any] = []
    for module in backbone.modules():
        found.append(ref(module))  # an id could be that of a module that is gone
        found += [value for value in vars(module).values() if type(value) in SWITCHES]
        found.append(vars(module).get("forward"))  # of this object, not of its class
        found += [len(module._forward_hooks), len(module._forward_pre_hooks)]
        for name, tensor in tensors_of(module):
            if name not in module._non_persistent_buffers_set:
                known = not (is_lazy(tensor) or tensor.is_inference())
                version = tensor._version if known else 0
                found.append((id(tensor), version, tensor.dtype, tensor.device))
    return tuple(found)


def _named(path: str, module: nn.Module) -> str:
    return (
        f"{type(module).__name__} in backbone.{path}" if path else f"the backbone, {type(module).__name__},"
    )
