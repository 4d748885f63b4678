"""What is known of a backbone: its name, settings, architecture and weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["BackboneInfo", "info_of", "remember"]

#: Attribute of a network that holds its BackboneInfo.
_ATTRIBUTE = "_backbone_info"


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a backbone.

    Attributes:
        name: under which adapters refer to it.
        architecture: a key of ``ARCHITECTURES``, or the library or kind it comes from, and ``arguments`` its
            keyword arguments.
        input_shape: of one example; None: the network checks for itself.
        fingerprint: of the weights.
        training: how it was made: config, seed, data digest, metrics (free form, JSON).
        settings: with which ``load_backbone(name, **settings)`` makes it again, JSON; None: nothing does on
            another machine (a file or folder of this one, a module of the caller's).
        input_dtype: in which it takes its input, such as ``float64``; None: that of its first layer.
        value_range: the least and the greatest value of the examples that it was trained on; None: not known.
    """

    name: str
    architecture: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...] | None
    fingerprint: str
    training: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] | None = field(default_factory=dict)
    input_dtype: str | None = None
    value_range: tuple[float, float] | None = None


def remember(network: nn.Module, info: BackboneInfo) -> nn.Module:
    """``network``, which now carries ``info``, so that an adapter made on it knows how to load it again."""
    vars(network)[_ATTRIBUTE] = info
    return network


def info_of(network: nn.Module) -> BackboneInfo | None:
    """What ``load_backbone`` knew of ``network``; None if it was made otherwise.

    Its fingerprint is that of the weights then: compare it with the present one before trusting the name.
    """
    return vars(network).get(_ATTRIBUTE)
