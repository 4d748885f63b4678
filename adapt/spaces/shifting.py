"""Norms whose shift is added to what they give, a number for each channel: which axis the channels are.

    y(x; s + δ) = y(x; s) + δ   along one axis, for every x

Layer, group and instance norms are such, with channels first or last, torch's or one's own. A norm that does
more behind its shift, one of whole maps, and one that gives several things are not. Each is asked, by
examples of its own.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt.backbones.frozen_norm import FrozenBatchNorm
from adapt.backbones.structure import duplicate
from adapt.precision import wide
from adapt.spaces.base import Space
from adapt.spaces.roles import is_bias, is_norm, is_vector

__all__ = ["Shifting", "shifting_norms"]

#: Of what ``y`` moves by, a half to one.
CLOSE = 1e-3


class Shifting(NamedTuple):
    """A norm, how many channels its shift has, and which axis they are of a ``y`` of so many axes."""

    norm: nn.Module
    channels: int
    axes: Mapping[int, int]

    def mean(self, y: Tensor) -> Tensor | None:
        """Of every channel ``[C]``; None: what is no output of such axes."""
        axis = self.axes.get(y.ndim)
        return None if axis is None else wide(y).mean([i for i in range(y.ndim) if i != axis])

    def along(self, shift: Tensor, y: Tensor) -> Tensor:
        """``shift [C]`` in the shape in which it is added to ``y``."""
        return shift.to(y.dtype).view([self.channels if i == self.axes[y.ndim] else 1 for i in range(y.ndim)])


def shifting_norms(backbone: nn.Module, space: Space) -> dict[str, Shifting]:
    """The norms of the network, but frozen batch norms, whose shift the space moves, by its name; norms that
    are not as said above are left out.

    Example:
        >>> from adapt.spaces import film
        >>> network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6))
        >>> shifting_norms(network, film(network))["1.bias"].axes
        {2: 1, 3: 1, 4: 1, 5: 1}
    """
    found, parameters = {}, dict(backbone.named_parameters())
    for name in filter(parameters.__contains__, space.shapes):
        owner, _, own = name.rpartition(".")
        norm = backbone.get_submodule(owner)
        asked = is_norm(norm) and not isinstance(norm, FrozenBatchNorm)
        if asked and is_bias(norm, own) and is_vector(parameters[name]):
            axes = dict(_axes(norm, own))
            if axes:
                found[name] = Shifting(norm, parameters[name].numel(), axes)
    return found


@torch.no_grad()
def _axes(norm: nn.Module, own: str) -> Iterator[tuple[int, int]]:
    """Axes of y -> the one to which the shift ``own`` is added, of examples that the norm takes."""
    norm, _ = duplicate(norm)  # which nobody looks at
    norm.eval()._forward_hooks.clear()
    norm._forward_pre_hooks.clear()
    shift = norm.get_parameter(own).detach().float()
    channels, delta = shift.numel(), torch.linspace(0.5, 1, shift.numel()).to(shift)
    # Of any norm of this kind, not of one whose scale happens to be 1.
    some = {name: _spread(it.detach().float(), 0.5, 1.5) for name, it in norm.named_parameters(recurse=False)}
    a, b = [size for size in (2, 3, 5) if size != channels][:2]
    for rest in ((), (a,), (a, b), (a, b, a)):
        fits = []
        for axis in {1, 1 + len(rest)}:
            sizes = (2, channels, *rest) if axis == 1 else (2, *rest, channels)
            x = _spread(shift.new_empty(sizes), -1, 2)
            try:
                before = functional_call(norm, some, (x,))
                after = functional_call(norm, {**some, own: some[own] + delta.view_as(shift)}, (x,))
            except Exception:  # a norm may refuse a shape in its own words
                continue
            if isinstance(before, Tensor) and before.shape == x.shape:
                expected = delta.view([channels if i == axis else 1 for i in range(x.ndim)])
                if bool(((after - before - expected).abs() <= CLOSE).all()):
                    fits.append(axis)
        if len(fits) == 1:  # a single number shifts whatever there is
            yield 2 + len(rest), fits[0]


def _spread(like: Tensor, low: float, high: float) -> Tensor:
    """Numbers between the two, none like its neighbours, in the shape of ``like``."""
    return torch.linspace(low, high, like.numel()).to(like).view(like.shape)
