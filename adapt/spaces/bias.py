"""BitFit: adapt the biases only.

    y = W x + b ,   φ = all b (of convolutions, linear layers and norms)

Ben Zaken, Ravfogel, Goldberg (2022), *BitFit: Simple Parameter-efficient Fine-tuning*, section 3.
"""

from torch import nn

from adapt.spaces.base import Space, select

__all__ = ["bias"]


def bias(backbone: nn.Module) -> Space:
    """Every parameter named ``bias`` of ``backbone``.

    Raises:
        AdaptError: the backbone has no biases.

    Example:
        >>> from adapt.backbones import Conv4
        >>> bias(Conv4()).size
        256
    """
    remedy = "it has no biases; use space=film or space=full"
    return select("bias", backbone, lambda _, local: local == "bias", remedy, {})
