"""BitFit: adapt the biases only.

    y = W x + b ,   φ = all b (of convolutions, linear and recurrent layers, attention and norms)

Ben Zaken, Ravfogel, Goldberg (2022), *BitFit: Simple Parameter-efficient Fine-tuning*, section 3.
"""

from torch import nn

from adapt.spaces.base import Space, select
from adapt.spaces.roles import is_bias, is_norm, is_vector

__all__ = ["bias"]


def bias(backbone: nn.Module) -> Space:
    """Every bias of ``backbone``, whatever its name: ``bias``, ``in_proj_bias`` and ``bias_k`` of attention,
    ``bias_ih_l0`` of an LSTM, β of a norm of one's own.

    Vectors that are neither scales of norms nor known to be biases are left out, and named in
    ``Space.left_out``.

    Raises:
        AdaptError: the backbone has no biases.

    Example:
        >>> from adapt.backbones import Conv4
        >>> bias(Conv4()).size
        256
    """
    remedy = "it has no biases; use space=film or space=full"
    return select("bias", backbone, is_bias, remedy, {}, _perhaps)


def _perhaps(module: nn.Module, name: str) -> bool:
    """Whether it has the shape of a bias, and is no scale of a norm."""
    tensor = module._parameters[name]
    norm = is_norm(module) or isinstance(module, nn.modules.batchnorm._BatchNorm)
    return tensor is not None and is_vector(tensor) and not norm
