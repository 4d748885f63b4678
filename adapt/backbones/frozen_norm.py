"""Batch normalisation with its statistics frozen, as a plain per-channel affine map.

In training mode batch normalisation mixes the examples of a batch and mutates its buffers, which no pure
function may do. A pretrained backbone is therefore converted once: every ``BatchNorm`` becomes ``y = x·s +
t`` with s = γ/√(σ²+ε), t = β − μ·s, the same values as evaluation mode, written so that forward mode,
``vmap`` and compilation see two elementary operations.
"""

import torch
from torch import Tensor, nn

from adapt.errors import AdaptError

__all__ = ["FrozenBatchNorm", "freeze_batch_norm"]

#: Forward passes that do nothing but normalise.
PLAIN = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)


class FrozenBatchNorm(nn.Module):
    """``y = (x − μ)/√(σ²+ε)·γ + β`` with constant μ, σ² (buffers) and adaptable γ, β (parameters), each
    ``[C]``.

    Input ``[n, C, …]``. Parameter and buffer names are those of ``nn.BatchNorm2d``, so that state dicts are
    interchangeable. Child modules, if it is given any, are applied to y in their order: the activation of a
    norm that comes with one.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input [n, C, …]`` with the frozen statistics."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # [C]
        shift = self.bias - self.running_mean * scale
        per_channel = (-1,) + (1,) * (input.ndim - 2)
        y = torch.addcmul(shift.view(per_channel), input, scale.view(per_channel))  # one pass over memory
        for then in self.children():
            y = then(y)
        return y


def freeze_batch_norm(module: nn.Module) -> nn.Module:
    """Replace, in place, every ``nn.BatchNorm{1,2,3}d`` under ``module`` by a :class:`FrozenBatchNorm` with
    its values; return it.

    timm's ``BatchNormAct2d``, a batch norm with an activation, keeps the latter.

    Raises:
        AdaptError: a batch norm without running statistics: there is nothing to freeze; or one with a forward
            pass of its own, of which nothing is known.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).eval()
        >>> x = torch.randn(2, 1, 8, 8)
        >>> before = net(x)
        >>> torch.allclose(freeze_batch_norm(net)(x), before, atol=1e-6)
        True
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _frozen(module)
    for name, child in module.named_children():
        setattr(module, name, freeze_batch_norm(child))
    return module


def _frozen(norm: nn.modules.batchnorm._BatchNorm) -> FrozenBatchNorm:
    if norm.running_var is None:
        raise AdaptError(
            "a BatchNorm with track_running_stats=False has no statistics to freeze: train it "
            "with them, or use GroupNorm"
        )
    then = dict(norm.named_children())
    if type(norm).forward not in PLAIN and list(then) != ["drop", "act"]:
        raise AdaptError(
            f"{type(norm).__name__} is a batch norm with a forward pass of its own, which freezing would "
            "lose: replace it by nn.BatchNorm2d and what it does besides"
        )
    frozen = FrozenBatchNorm(norm.num_features, norm.eps)
    for name, child in then.items():
        if hasattr(child, "inplace"):
            # Writing over its input is not what a pure function does.
            child.inplace = False  # type: ignore[assignment]
        frozen.add_module(name, child)
    frozen.load_state_dict(
        {k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"}, strict=False
    )
    return frozen.to(norm.running_var)
