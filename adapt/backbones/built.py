"""What the builder of a named backbone returns."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

__all__ = ["Built"]


class Built(NamedTuple):
    """``network`` is not frozen yet.

    ``label`` is its name behind the prefix, where it is not the one that was asked for; ``local``: whether it
    needs a file or folder that other machines do not have; ``arguments``: what it is made of, if not the
    settings.
    """

    network: nn.Module
    input_shape: tuple[int, ...] | None = None
    label: str | None = None
    local: bool = False
    arguments: Mapping[str, Any] | None = None
