"""All parameters: what full fine-tuning moves.

    φ = every parameter of the backbone

Its Jacobian has as many columns as the network has weights, so only reverse mode (or random tangents) is
affordable here.
"""

from torch import nn

from adapt.spaces.base import Space, select

__all__ = ["full"]


def full(backbone: nn.Module) -> Space:
    """Every parameter of ``backbone`` that holds real numbers.

    Raises:
        AdaptError: the backbone has no parameters.

    Example:
        >>> from adapt.backbones import Conv4
        >>> backbone = Conv4()
        >>> full(backbone).size == sum(p.numel() for p in backbone.parameters())
        True
    """
    return select("full", backbone, lambda *_: True, "it has no parameters of real numbers", {})
