"""FiLM: a scale and a shift per channel, after every normalisation.

    y = γ ⊙ norm(x) + β ,   φ = (γ, β) of every norm layer

Perez et al. (2018), *FiLM: Visual Reasoning with a General Conditioning Layer*, equation 1; for few-shot
adaptation Requeima et al. (2019), *CNAPs*. Unlike there, no network predicts γ and β here: they are solved
for.
"""

from torch import nn

from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.spaces.base import Space, select

__all__ = ["film"]

NORMS = (FrozenBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def film(backbone: nn.Module) -> Space:
    """The affine parameters of every normalisation layer of ``backbone``.

    Raises:
        AdaptError: no normalisation layer with affine parameters. Batch norm counts only once it is frozen
            (``adapt.backbones.freeze_batch_norm``).

    Example:
        >>> from adapt.backbones import Conv4
        >>> film(Conv4()).size
        512
    """
    return select(
        "film",
        backbone,
        lambda module, _: isinstance(module, NORMS),
        "it has no frozen normalisation with scale and shift; call "
        "adapt.backbones.freeze_batch_norm first, or use space=bias",
    )
