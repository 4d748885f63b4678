"""What is wrong with the features that a backbone returned."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapt.backbones.trace import traced
from adapt.forward.watch import Finding

__all__ = ["fault_of"]

WRAP = "wrap it in a module that returns the features alone, one tensor [n, D]"


def fault_of(backbone: nn.Module, features: Any, x: Tensor) -> Finding | None:
    """Why ``features = backbone(x)`` are no finite floating-point tensor ``[n, D]``; None if they are."""
    if fault := _form(features, len(x)):
        return Finding(type(backbone).__name__, "", *fault)
    if bool(torch.isfinite(features).all()):
        return None
    path = _not_finite(backbone, x)
    culprit = type(backbone.get_submodule(path)).__name__
    fix = "scale the examples as the network was trained, or use a wider dtype, backbone.float()"
    return Finding(culprit, path, "its values are NaN or infinite for finite examples", fix)


def _form(features: Any, n: int) -> tuple[str, str] | None:
    """The reason and the fix, from type and shape alone."""
    if not isinstance(features, Tensor):
        fix = WRAP
        if isinstance(features, Mapping) and "last_hidden_state" in features:
            fix += ", for instance outputs.last_hidden_state.mean(1)"
        return f"it returns {_kind_of(features)}, not a tensor", fix
    shape = f"features of shape {tuple(features.shape)} for {n} examples"
    if features.layout is not torch.strided or features.is_nested or features.is_quantized:
        return (
            f"it returns a tensor that is not dense ({features.layout}, {features.dtype})",
            "call to_dense()",
        )
    if features.ndim == 1 and len(features) == n:
        return f"it returns {shape}", "give them an axis, features[:, None]"
    if features.ndim == 0 or len(features) != n:
        return f"it returns {shape}", "let the first axis be that of the examples, [n, D]"
    if features.ndim == 1:
        return f"it returns {shape}", "let the last axis be that of the features, [n, D]"
    if features.ndim > 2:
        return f"it returns {shape}", "average over the other axes, or flatten(1) them, to [n, D]"
    if not features.numel():
        return f"it returns {shape}", "let there be at least one feature"
    if not features.is_floating_point():
        return (
            f"it returns features of {features.dtype}",
            "convert them to real numbers, for instance with .float()",
        )
    return None


def _kind_of(value: Any) -> str:
    """A value that is no tensor, by its type and what it holds."""
    name = f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
    if isinstance(value, Mapping):
        return f"{name} of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, tuple | list):
        return f"{name} of {', '.join(type(entry).__name__ for entry in value) or 'nothing'}"
    return name


def _not_finite(backbone: nn.Module, x: Tensor) -> str:
    """The path of the first module that returns a number that is not finite."""
    with traced(backbone) as events:
        backbone(x)
    for event in events:
        real = [tensor for tensor in event.tensors if tensor.is_floating_point()]
        if event.done and not all(bool(torch.isfinite(tensor).all()) for tensor in real):
            return event.path
    return ""
