"""An adapter on another device or in another dtype, and the one it was made of as it was."""

from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from adapt.adapter.record import AdapterRecord
from adapt.adapter.state import AdapterState
from adapt.backbones import duplicate, info_of
from adapt.backbones.info import remember
from adapt.errors import AdaptError
from adapt.spaces import Space

__all__ = ["Target", "first_line", "moved"]

#: What ``to`` takes: a device, its name, a floating-point dtype.
Target = torch.device | str | int | torch.dtype


Adapter = TypeVar("Adapter", bound=AdapterRecord)


def moved(adapter: Adapter, target: Target, dtype: torch.dtype | None = None) -> Adapter:
    """``adapter`` with backbone, space and state where ``target`` and ``dtype`` say.

    The backbone is the adapter's own if nothing of it has to change, else a copy: ``nn.Module.to`` alone
    would change it under the feet of everybody who uses it. A space that merges refers to weights of its
    backbone, so that both are copied together.

    Raises:
        AdaptError: a dtype that is not floating-point, a target that torch does not know, or a backbone or a
            space that cannot be copied.
    """
    device, dtype = _parsed(target, dtype)
    backbone, space = adapter.backbone, adapter.space
    if not all(tensor.device == (device or tensor.device) for tensor in _tensors(backbone)) or not all(
        tensor.dtype == (dtype or tensor.dtype) for tensor in _tensors(backbone) if tensor.is_floating_point()
    ):
        try:
            backbone, space = duplicate(backbone, space)
        except Exception as error:
            raise AdaptError(
                f"{type(adapter.backbone).__name__} cannot be copied ({first_line(error)}), and to() leaves "
                "the original as it is: move the backbone, then make spaces and adapters of it"
            ) from error
        backbone = _converted(backbone, device, dtype)
        info = info_of(backbone)
        if (
            dtype is not None
            and info is not None
            and getattr(torch, info.input_dtype or "int64").is_floating_point
        ):
            remember(backbone, replace(info, input_dtype=str(dtype).removeprefix("torch.")))
    space = _moved_space(space, device, dtype)
    state = AdapterState(*(tensor.to(device=device, dtype=dtype) for tensor in adapter.state))
    return adapter.replace(backbone=backbone, space=space, state=state)


def _parsed(target: Target, dtype: torch.dtype | None) -> tuple[torch.device | None, torch.dtype | None]:
    device = None
    if isinstance(target, torch.dtype):
        if dtype is not None:
            raise AdaptError(f"to({target}, {dtype}): one dtype is enough; a device goes first")
        dtype = target
    else:
        try:
            device = torch.empty(0, device=target).device  # with its number: cuda is cuda:0
        except (RuntimeError, AssertionError, TypeError) as error:
            raise AdaptError(f"to({target!r}): torch cannot compute there ({first_line(error)})") from None
        if device.type == "meta":
            raise AdaptError("to('meta'): nothing can be computed without values")
    if dtype is not None and not dtype.is_floating_point:
        raise AdaptError(
            f"to({dtype}): an adapter computes with floating-point numbers, such as torch.float64"
        )
    return device, dtype


def _converted(backbone: nn.Module, device: torch.device | None, dtype: torch.dtype | None) -> nn.Module:
    """``backbone.to(…)``, but a buffer that several modules share stays one, which torch would make
    several."""
    first: dict[int, tuple[nn.Module, str]] = {}
    shared: list[tuple[nn.Module, str, tuple[nn.Module, str]]] = []
    for module in backbone.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and first.setdefault(id(buffer), (module, name)) != (module, name):
                shared.append((module, name, first[id(buffer)]))
    backbone = backbone.to(device=device, dtype=dtype)
    for module, name, (owner, original) in shared:
        module._buffers[name] = owner._buffers[original]
    return backbone


def _moved_space(space: Space, device: torch.device | None, dtype: torch.dtype | None) -> Space:
    space = replace(space, initial=space.initial.to(device=device, dtype=dtype))
    for name, tensor in space.parameters(space.initial).items():
        if tensor.device != space.initial.device or tensor.dtype != space.initial.dtype:
            raise AdaptError(
                f"space '{space.name}' makes {name} from tensors that cannot be moved with it: move the "
                "backbone, then make the space again"
            )
    return space


def _tensors(backbone: nn.Module) -> list[torch.Tensor]:
    return [*backbone.parameters(), *backbone.buffers()]


def first_line(error: BaseException) -> str:
    """What ``error`` says, without the lines that follow; its kind if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
