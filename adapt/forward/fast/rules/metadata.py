"""What is read off a tensor without being differentiable: shapes, comparisons, numbers for control flow."""

from typing import Any

import torch
from torch import Tensor

from adapt.forward.errors import Unsupported, operation_name
from adapt.forward.fast.dual import primal, rule

__all__: list[str] = []

PROPERTIES = (
    "shape dtype device ndim layout requires_grad is_leaf grad grad_fn names itemsize nbytes is_cpu is_cuda "
    "is_meta is_mps is_nested is_quantized is_sparse is_xpu"
)
METHODS = (
    "size dim ndimension numel nelement stride storage_offset element_size is_contiguous is_floating_point "
    "is_complex is_inference get_device __len__ __bool__ __float__ __int__ __index__ item tolist "
    "__repr__ __format__ __hash__ __contains__ detach eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ "
    "__ge__ argmax argmin argsort any all isnan isinf isfinite isclose allclose equal sign signbit "
    "floor ceil round trunc new_zeros new_ones new_full new_empty new_tensor logical_not bool int long"
)
FUNCTIONS = (
    "is_floating_point is_complex numel eq ne lt le gt ge argmax argmin argsort isnan isinf isfinite isclose "
    "allclose equal sign floor ceil round trunc zeros_like ones_like full_like empty_like result_type "
    "logical_not searchsorted bucketize one_hot"
)


def _named(owner: Any, names: str) -> list[Any]:
    return [getattr(owner, name) for name in names.split() if hasattr(owner, name)]


@rule(*[getattr(Tensor, name).__get__ for name in PROPERTIES.split() if hasattr(Tensor, name)])
@rule(Tensor.data.__get__)  # type: ignore[attr-defined]
@rule(*_named(Tensor, METHODS), *_named(torch, FUNCTIONS), torch.nn.functional.one_hot)
def constant(func: Any, *args: Any, **kwargs: Any) -> Any:
    """g' = 0: the result is that of the values."""
    return func(*map(primal, args), **{name: primal(value) for name, value in kwargs.items()})


@rule(Tensor.requires_grad_)
def requires_grad_(func: Any, self: Any, requires_grad: bool = True) -> Any:
    """Says nothing of tangents."""
    return self


@rule(Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.data_ptr, Tensor.untyped_storage)
def leaves_torch(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Derivatives end where NumPy, or any other reader of the memory, begins."""
    raise Unsupported(operation_name(func), "what NumPy computes has no derivative")
