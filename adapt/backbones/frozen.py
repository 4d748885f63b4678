"""What makes a network of any origin a backbone: fixed, deterministic, and free of side effects."""

import torch
from torch import Tensor, nn

from adapt.backbones.frozen_norm import freeze_batch_norm

__all__ = ["frozen"]


def frozen(network: nn.Module) -> nn.Module:
    """``network``, changed in place: in evaluation mode, batch norms frozen, nothing that requires gradients,
    no activation that writes over its input, convolutions with channels last.

    Example:
        >>> net = frozen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)))
        >>> net.training, type(net[1]).__name__, net[2].inplace
        (False, 'FrozenBatchNorm', False)
    """
    network = freeze_batch_norm(network)
    for module in network.modules():
        if getattr(module, "inplace", False) is True:
            # A pure function does not write to its input.
            module.inplace = False  # type: ignore[assignment]
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(module, name, _Mean())
    # Volumes have a format of their own. With channels last, torch 2.13 on CPU crashes in the gradient of a
    # group norm whose input, of a frozen convolution, needs none.
    volumes = any(parameter.ndim == 5 for parameter in network.parameters())
    if not volumes:
        grouped = any(isinstance(module, nn.GroupNorm) for module in network.modules())
        # Convolutions are faster so, on CPU nearly twice; values and fingerprint are the same.
        kind = torch.contiguous_format if grouped else torch.channels_last
        network.to(memory_format=kind)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


class _Mean(nn.Module):
    """``nn.AdaptiveAvgPool2d(1)``, which vmap does not know for maps with channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1), keepdim=True)
