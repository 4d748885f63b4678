"""Parallel residual adapters: a 1×1 convolution beside every convolution.

    y = W₀ * x + A x ,   A [out, in] a 1×1 kernel ;   φ = all A, which start at 0

Rebuffi, Bilen, Vedaldi (2018), *Efficient Parametrization of Multi-domain Deep Neural Networks*, section 3.2.
Convolution is linear, so A is put into the centre of the kernel: W = W₀ + A at the centre. This is the sum
above where the padding keeps the centre over x, as in k×k convolutions with padding ⌊k/2⌋. Linear layers are
1×1 convolutions: W = W₀ + A, which moves all of W. Difference: the batch normalisation that the paper puts
after each sum is the backbone's own, and stays frozen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from adapt.spaces.base import Space
from adapt.spaces.layers import Layer, layers_of, left_out

__all__ = ["Centred", "residual"]


@dataclass(frozen=True)
class Centred:
    """The merge: A into the centre of each kernel."""

    layers: tuple[Layer, ...]

    def __call__(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """W of every layer, by the name of its weight."""
        merged = {}
        for layer in self.layers:
            change = own[layer.own("residual")]
            weight = layer.frozen(change)
            kernel = weight.shape[2:]
            if kernel:
                centre = weight.new_zeros(kernel)
                centre[tuple(side // 2 for side in kernel)] = 1
                change = change.reshape(change.shape + (1,) * len(kernel)) * centre
            merged[layer.weight] = weight + change
        return merged


def residual(backbone: nn.Module, targets: str = "*") -> Space:
    """A 1×1 convolution beside the convolutions of ``backbone`` whose kernels have a centre (odd sizes), and
    beside its linear layers.

    Args:
        backbone: any network.
        targets: which layers, by patterns of their names; default all.

    Raises:
        AdaptError: targets that match no such layer.

    Example:
        >>> from torch import nn
        >>> space = residual(nn.Conv2d(2, 5, 3, padding=1))
        >>> space.shapes
        {'residual': (5, 2)}
    """
    layers = layers_of("residual", backbone, targets, _has_centre)
    shapes: dict[str, tuple[int, ...]] = {
        layer.own("residual"): tuple(layer.parameter.shape[:2]) for layer in layers
    }
    like = layers[0].parameter
    size = sum(map(prod, shapes.values()))
    initial = torch.zeros(size, dtype=like.dtype, device=like.device)
    merge = Centred(tuple(layers))
    return Space("residual", shapes, initial, {"targets": targets}, merge, left_out(backbone, _has_centre))


def _has_centre(layer: Layer) -> bool:
    return all(side % 2 for side in layer.parameter.shape[2:])
