"""(IA)³: a factor for every output of a layer.

    y = l ⊙ (W₀ x + b₀) ,   so  W = diag(l) W₀ ,  b = l ⊙ b₀ ;   φ = all l, which start at 1

Liu et al. (2022), *Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning*,
section 3.3: there for keys, values, and the hidden units of the feed-forward network after their activation.
The latter are the inputs of its second layer: for layers in ``feedforward``, y = W₀ (l ⊙ x) + b₀, and W = W₀
diag(l). Difference: by default every linear and convolution layer is adapted, since only transformers have
keys and values.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.errors import AdaptError
from adapt.spaces.base import Space
from adapt.spaces.layers import Layer, layers_of, left_out

__all__ = ["Scaled", "ia3"]


@dataclass(frozen=True)
class Scaled:
    """The merge: rows of W (and b) for the layers ``rows``, columns for ``columns``."""

    rows: tuple[Layer, ...]
    columns: tuple[Layer, ...]

    def __call__(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """W and b of every layer, by their names."""
        merged = {}
        for layer in self.rows:
            factor = own[layer.own("ia3_l")]
            weight = layer.frozen(factor)
            shape = (-1,) if layer.transposed else (-1,) + (1,) * (weight.ndim - 1)
            merged[layer.weight] = factor.reshape(shape) * weight
            if layer.bias is not None and (shift := layer.frozen_shift(factor)) is not None:
                merged[layer.bias] = factor * shift
        for layer in self.columns:
            factor = own[layer.own("ia3_l")]
            weight = layer.frozen(factor)
            shape = (-1, 1) if layer.transposed else (-1,) + (1,) * (weight.ndim - 2)
            merged[layer.weight] = factor.reshape(shape) * weight
        return merged


def ia3(backbone: nn.Module, targets: str = "*", feedforward: str = "") -> Space:
    """A factor for every output (for ``feedforward``: input) of linear and convolution layers.

    Args:
        backbone: any network.
        targets: layers whose outputs are scaled, by patterns of their names: ``*key*,*value*``; default all.
        feedforward: layers whose inputs are scaled instead.

    Raises:
        AdaptError: patterns that match nothing, or inputs of a grouped convolution, which each group numbers
            anew.

    Example:
        >>> from torch import nn
        >>> space = ia3(nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 2)), feedforward="2")
        >>> space.shapes, [*space.parameters(space.initial)]
        ({'0.ia3_l': (3,), '2.ia3_l': (3,)}, ['0.weight', '0.bias', '2.weight'])
    """
    columns = layers_of("ia3", backbone, feedforward, _has_own_bias) if feedforward else []
    for layer in columns:
        if getattr(layer.module, "groups", 1) > 1:
            raise AdaptError(
                f"space.feedforward: {layer.name} is a grouped convolution, whose inputs cannot be scaled by "
                "its weight: adapt its outputs (targets)"
            )
    scaled = {layer.parameter for layer in columns}
    rows = [
        layer
        for layer in (layers_of("ia3", backbone, targets, _has_own_bias) if targets or not columns else [])
        if layer.parameter not in scaled
    ]
    sizes = {layer.own("ia3_l"): layer.outputs for layer in rows}
    sizes |= {layer.own("ia3_l"): layer.parameter.shape[0 if layer.transposed else 1] for layer in columns}
    like = (rows + columns)[0].parameter
    initial = torch.ones(sum(sizes.values()), dtype=like.dtype, device=like.device)
    settings = {"targets": targets, "feedforward": feedforward}
    shapes: dict[str, tuple[int, ...]] = {name: (size,) for name, size in sizes.items()}
    return Space(
        "ia3",
        shapes,
        initial,
        settings,
        Scaled(tuple(rows), tuple(columns)),
        left_out(backbone, _has_own_bias),
    )


def _has_own_bias(layer: Layer) -> bool:
    """Of several that share one, none can be scaled alone."""
    return not layer.shared
