"""Prompts: vectors before the input of a transformer.

    inputs = [first token ; p_1 … p_m ; the other tokens] ,   φ = (p_1 … p_m)

Lester, Al-Rfou, Constant (2021), *The Power of Scale for Parameter-Efficient Prompt Tuning*, section 2; for
images Jia et al. (2022), *Visual Prompt Tuning*, equations 4 and 5 (its shallow form). The vectors are
parameters of the backbone: build it with ``prompts=m``.
"""

from torch import nn

from adapt.spaces.base import Space, select

__all__ = ["prompt"]


def prompt(backbone: nn.Module) -> Space:
    """Every parameter named ``prompt`` of ``backbone``.

    Raises:
        AdaptError: the backbone has none.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> class Prompted(nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.prompt = nn.Parameter(torch.zeros(4, 8))
        >>> prompt(Prompted()).shapes
        {'prompt': (4, 8)}
    """
    remedy = "it takes no prompt; build a transformer with prompts=8, say, or use space=lora"
    return select("prompt", backbone, lambda _, local: local == "prompt", remedy, {})
