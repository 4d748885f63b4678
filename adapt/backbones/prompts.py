"""Learnable tokens for a vision transformer.

    tokens ↦ [first token, prompt, other tokens] before the first block ,   and without prompt after the last

Jia et al. (2022), *Visual Prompt Tuning*, section 3.2, the shallow variant: the prompt, p vectors, is
learned, and nothing else of the network need move. Here the first token may be that of a patch.
"""

from typing import Any

import torch
from torch import Tensor, nn

from adapt.budget import afford
from adapt.checks import DEPTH, SEED, check_setting, least
from adapt.errors import AdaptError

__all__ = ["Prompted", "prompted"]

#: Under which libraries keep the blocks of a transformer.
BLOCKS = (".blocks", ".layers", ".encoder.layer")
SCALE = 0.02


class Prompted(nn.Module):
    """``network`` with ``prompt [prompts, width]`` between its tokens, small random numbers of ``seed``."""

    def __init__(
        self, network: nn.Module, blocks: list[nn.Module], prompts: int, width: int, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        generator = torch.Generator().manual_seed(seed)
        self.prompt = nn.Parameter(SCALE * torch.randn(prompts, width, generator=generator))
        # Bound methods, which copies of this module take along as methods of their own.
        blocks[0].register_forward_pre_hook(self._insert)
        blocks[-1].register_forward_hook(self._remove)

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        return self.network(*inputs, **settings)

    def _insert(self, block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens, *others = inputs  # [n, T, d]
        prompt = self.prompt.expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, :1], prompt, tokens[:, 1:]], 1), *others

    def _remove(self, block: nn.Module, inputs: tuple[Any, ...], tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :1], tokens[:, 1 + len(self.prompt) :]], 1)


def prompted(network: nn.Module, prompts: int, seed: int = 0) -> nn.Module:
    """``network`` itself for no prompts, otherwise a :class:`Prompted`.

    Raises:
        AdaptError: fewer than none, or a network that has no blocks of tokens.

    Example:
        >>> from adapt.backbones import ViT
        >>> dict(prompted(ViT(width=32), 3).named_parameters())["prompt"].shape
        torch.Size([3, 32])
    """
    prompts = check_setting("prompts", prompts, least(0, ceiling=DEPTH))
    seed = check_setting("seed", seed, SEED)
    if not prompts:
        return network
    stacks = (list(part.children()) for path, part in network.named_modules() if f".{path}".endswith(BLOCKS))
    blocks = next((stack for stack in stacks if stack), [])
    norms = [part for block in blocks[:1] for part in block.modules() if isinstance(part, nn.LayerNorm)]
    if not norms:
        raise AdaptError(
            f"prompts={prompts}: {type(network).__name__} is no transformer with blocks of tokens: leave "
            "prompts out"
        )
    afford(f"prompts={prompts}", prompts * norms[0].normalized_shape[0])
    return Prompted(network, blocks, prompts, norms[0].normalized_shape[0], seed)
