"""A network that starts where our adapter starts, for inner loops that move the parameters of a module.

    θ⁰ = the backbone's weights with φ₀ written in ,   θ ← θ − step(∇ ℓ(θ)/n) on the adaptable tensors only

In a space that merges tensors of its own into the weights (LoRA), those are what moves: φ ← φ − step(∇ ℓ/n).

ℓ is the support loss of ``adapt.adapter.problem``, the same that we solve. How φ moves is the business of the
library that is compared (MAML's inner loop: Finn, Abbeel, Levine 2017, algorithm 1); whether it moves at all,
and what is done with the features at the end, is decided as in ``FewShotAdapter.fit``.
"""

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter.adapting import can_adapt, settle
from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.inputs import as_targets
from adapt.adapter.method import Adapt, Predictor, Support, Unfinished, Watch
from adapt.adapter.problem import model_of
from adapt.backbones import call, plain_call
from adapt.precision import is_low, wide
from adapt.spaces import Space

__all__ = ["Inner", "SupportLoss", "adapt_by", "at_origin", "movable", "trainable_copy", "trained"]

SupportLoss = Callable[[nn.Module], Tensor]
#: ``(start, loss) → adapted network``: moves a copy of ``start``, whose ``requires_grad`` says what may move,
#: to where ``loss(network)``, the mean over the support examples, is smaller.
Inner = Callable[[nn.Module, SupportLoss], nn.Module]


def trainable_copy(network: nn.Module) -> nn.Module:
    """A copy of ``network`` in float32 where it is bfloat16 or float16: a step of descent is smaller than the
    rounding of such weights, and would be lost."""
    network = copy.deepcopy(network)
    low = any(is_low(tensor.dtype) for tensor in chain(network.parameters(), network.buffers()))
    return network._apply(wide) if low else network


def at_origin(adapter: FewShotAdapter) -> nn.Module:
    """A :func:`trainable_copy` of the adapter's backbone at φ₀; only the tensors that its space moves require
    gradients."""
    network = trainable_copy(adapter.backbone).requires_grad_(False)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in adapter.space.parameters(adapter.state.origin).items():
            parameters[name].copy_(value).requires_grad_(True)
    return network


class Merging(nn.Module):
    """A network whose parameters are the adaptable tensors of a space, at ``phi [P]``.

    The backbone is hidden from ``parameters()`` and from libraries that replace parameters of modules: they
    see what moves, and nothing else.
    """

    def __init__(self, backbone: nn.Module, space: Space, phi: Tensor) -> None:
        super().__init__()
        self._fixed = (backbone, space)  # in a tuple: no submodule
        for place, tensor in enumerate(
            space.tensors(phi).values()
        ):  # names may have dots, which torch forbids
            self.register_parameter(f"own_{place}", nn.Parameter(tensor.detach().clone()))

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[n, D]``."""
        backbone, space = self._fixed
        own = {name: getattr(self, f"own_{place}") for place, name in enumerate(space.shapes)}
        return call(backbone, space.merged(own), x)


def movable(adapter: FewShotAdapter) -> nn.Module:
    """The adapter's network at φ₀, its parameters that require gradients being the adaptable tensors."""
    if adapter.space.merge is None:
        return at_origin(adapter)
    return Merging(adapter.backbone, adapter.space, adapter.state.origin)


def adapt_by(inner: Inner, adapter: FewShotAdapter) -> Adapt:
    """Adapts by ``inner`` from the adapter's start on its support loss, then fits the adapter's head.

    As in ``FewShotAdapter.fit``, the start is kept with a single example of some class, and where the loss
    ended greater than it began or the features are not finite. Every step but the last is shown to ``watch``
    when the loss is asked for after it.
    """
    if adapter.match is not None:  # every task has a start of its own
        return lambda support, watch: adapt_by(inner, adapter.matched(support.x))(support, watch)
    start, problem = movable(adapter), adapter.problem

    def adapt(support: Support, watch: Watch) -> Predictor:
        x = adapter.examples(support.x)
        _, targets = as_targets(support.y, len(x), adapter.state.origin, adapter.loss)
        features: Any = lambda network: plain_call(network, x)  # noqa: E731 (of networks, not of z)
        model: Any = model_of(features, adapter.state, targets, problem)
        seen: list[Tensor] = []

        def predictor(moved: nn.Module, before: Tensor | None = None) -> Predictor:
            with torch.no_grad():
                network, _, state, *_ = settle(model, start, moved, before, targets, problem)
            return lambda query: adapter.head.logits(state, plain_call(network, adapter.examples(query)))

        def loss(network: nn.Module) -> Tensor:
            if seen:
                watch(Unfinished(lambda: predictor(network)))
            value = adapter.loss.value(model.readout(model.features(network), None), targets)
            seen.append(value.detach())
            return value / len(targets)

        network = start
        if can_adapt(targets, adapter.loss):
            with torch.enable_grad():
                network = inner(start, loss)
        final = predictor(network, seen[0] if seen else None)
        if len(seen) < 2:  # no step, or one: with a single example of a class, say
            watch(final)
        return final

    return adapt


def trained(network: nn.Module) -> nn.Module:
    """``network``, whose parameters all require gradients, but for whole numbers, which have none."""
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return network
