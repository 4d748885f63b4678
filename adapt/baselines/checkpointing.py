"""Activation checkpointing: backpropagation that computes activations again instead of keeping them.

    forward: keep the inputs of the L blocks only;   backward, from the last block: recompute, backpropagate

Chen, Xu, Zhang, Guestrin (2016), *Training Deep Nets with Sublinear Memory Cost*, section 4: the memory of
one block and of L inputs instead of that of all blocks, for one more forward pass. Blocks are what the
network itself repeats; each is one segment.

The network runs with other parameters than its own, which are back in place by the time of the backward pass,
when a block is computed again. Each segment therefore takes its parameters as inputs, like its activations.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adapt.errors import AdaptError
from adapt.forward.estimators.base import GradientInfo
from adapt.forward.functional import functional
from adapt.forward.kernels import ONE_AT_A_TIME

__all__ = ["CheckpointedReverse", "checkpointed", "segments"]

#: A container with a child that holds more of it than this does not cut the network.
LARGEST = 0.9


@dataclass(frozen=True)
class CheckpointedReverse:
    """The exact gradient like :class:`adapt.forward.estimators.Reverse`, on the tape of ``torch.autograd``:
    ``torch.func.grad`` does not support the hooks that checkpointing is made of.

    ``recomputed``: how often the network computes its activations again (twice where a segment lies within
    another).
    """

    exact: bool = True
    recomputed: int = 1

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """Return ``f(x)``, the gradient ``[P]`` at ``x [P]``, and its info; ``generator`` is not used."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = f(leaf)
            (gradient,) = torch.autograd.grad(value, leaf)
        # A backward pass counts as two forward passes.
        return value.detach(), gradient, GradientInfo(exact=True, tangents=0, passes=2.0 + self.recomputed)


def checkpointed(network: nn.Module) -> nn.Module:
    """A frozen copy of ``network``, of the same parameter names and values, whose blocks are checkpointed
    whenever gradients are recorded.

    Raises:
        AdaptError: the network has no repeated blocks.
    """
    network = copy.deepcopy(network).requires_grad_(False)
    for block in segments(network):
        _replace_forward(block, _segment(block))
    _replace_forward(network, _unobserved(network.forward))
    return network


def segments(network: nn.Module) -> list[nn.Module]:
    """The repeated blocks: children of the ``nn.Sequential`` or ``nn.ModuleList`` of two or more that holds
    most parameters, the outermost one of several; those that one child almost fills do not count.

    Raises:
        AdaptError: there is none.
    """
    most, blocks = 0, list[nn.Module]()
    for module in network.modules():
        if isinstance(module, nn.Sequential | nn.ModuleList) and len(module) >= 2:
            sizes = [sum(p.numel() for p in child.parameters()) for child in module]
            if sum(sizes) > most and max(sizes) <= LARGEST * sum(sizes):
                most, blocks = sum(sizes), list(module)
    if not blocks:
        raise AdaptError(
            f"checkpoint=True: {type(network).__name__} has no repeated blocks (an nn.Sequential or "
            "nn.ModuleList with two children or more): use checkpoint=False"
        )
    return list(dict.fromkeys(blocks))  # a block that is used twice is one


def _segment(block: nn.Module) -> Callable[..., Any]:
    """The forward of ``block`` that keeps its inputs only, its present parameters among them."""
    # Shares all tensors with the block, but keeps the forward that is being replaced.
    plain = copy.copy(block)

    def forward(*args: Any, **kwargs: Any) -> Any:
        parameters = dict(block.named_parameters())

        def run(*inputs: Any, **named: Any) -> Any:
            values = dict(zip(parameters, inputs, strict=False))
            # Tensors are swapped inside the module. adapt.backbones.call locks that in the forward pass only.
            with ONE_AT_A_TIME:
                return functional(plain, values, inputs[len(values) :], named)

        if not torch.is_grad_enabled():
            return run(*parameters.values(), *args, **kwargs)
        return checkpoint(run, *parameters.values(), *args, use_reentrant=False, **kwargs)

    return forward


def _unobserved(forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward`` as a ``FrozenPrefix`` does not see it, which would keep the results of frozen layers, and
    would take the tensors that ``checkpoint`` makes for its own accounting for such results."""

    def unobserved(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return forward(*args, **kwargs)

    return unobserved


def _replace_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Of this object, not of its class."""
    module.forward = forward
