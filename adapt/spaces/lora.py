"""LoRA: a low-rank change of every weight.

    W = W₀ + (α/r) B A ,   A [r, in] , B [out, r] ,   φ = (A, B) of every adapted layer

Hu et al. (2022), *LoRA: Low-Rank Adaptation of Large Language Models*, section 4.1, equation 3. A starts
uniform in ±1/√in (He et al. 2015 with slope √5, as in PEFT) and B at zero, so that φ₀ computes what the
backbone computes. Kernels of convolutions count as matrices ``[out, in·kh·kw]``. Differences: nothing is
dropped out, and W is formed, which a tangent pass needs to do only once for all examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.budget import afford
from adapt.checks import SEED, WIDTH, check_setting, least, optional, positive
from adapt.spaces.base import Space
from adapt.spaces.layers import Layer, layers_of, left_out

__all__ = ["LowRank", "lora"]


@dataclass(frozen=True)
class LowRank:
    """The merge: ``scale`` is α/r."""

    layers: tuple[Layer, ...]
    scale: float

    def __call__(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """W of every layer, by the name of its weight."""
        merged = {}
        for layer in self.layers:
            change = self.scale * (own[layer.own("lora_B")] @ own[layer.own("lora_A")])  # [out, in·kh·kw]
            shaped = change.mT if layer.transposed else change.reshape(layer.parameter.shape)
            merged[layer.weight] = layer.frozen(change) + shaped
        return merged


def lora(
    backbone: nn.Module, rank: int = 4, alpha: float | None = None, targets: str = "*", seed: int = 0
) -> Space:
    """A low-rank change of the linear and convolution layers of ``backbone``, of the projections of its
    attention, and of the weights of its recurrent layers.

    Args:
        backbone: any network.
        rank: r, columns of B.
        alpha: α; None = r, so that W = W₀ + B A.
        targets: which layers, by patterns of their names: ``*query*,*value*``; default all.
        seed: of the initial A.

    Raises:
        AdaptError: a rank that is none, or targets that match nothing.

    Example:
        >>> from torch import nn
        >>> space = lora(nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 3)), rank=2, targets="0")
        >>> space.shapes
        {'0.lora_A': (2, 8), '0.lora_B': (3, 2)}
        >>> {name: tuple(value.shape) for name, value in space.parameters(space.initial).items()}
        {'0.weight': (3, 8)}
    """
    layers = layers_of("lora", backbone, targets)
    rank = check_setting(
        "space.rank", rank, least(1, "the rank of the change must be at least 1", ceiling=WIDTH)
    )
    alpha = check_setting("space.alpha", alpha, optional(positive()))
    seed = check_setting("space.seed", seed, SEED)
    afford(f"space 'lora' of rank {rank}", sum(rank * (layer.inputs + layer.outputs) for layer in layers))
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Tensor] = {}
    for layer in layers:
        a = torch.empty(rank, layer.inputs)
        nn.init.kaiming_uniform_(a, a=5**0.5, generator=generator)
        values[layer.own("lora_A")] = a.to(layer.parameter)  # drawn on CPU: the same on every device
        values[layer.own("lora_B")] = layer.parameter.new_zeros(layer.outputs, rank)
    settings = {"rank": rank, "alpha": alpha, "targets": targets, "seed": seed}
    initial = torch.cat([value.detach().reshape(-1) for value in values.values()])
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    scale = 1.0 if alpha is None else alpha / rank
    return Space("lora", shapes, initial, settings, LowRank(tuple(layers), scale), left_out(backbone))
