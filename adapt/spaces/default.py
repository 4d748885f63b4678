"""The space of a network of which nothing is known but its layers."""

from torch import nn

from adapt.errors import AdaptError
from adapt.spaces.base import Space
from adapt.spaces.film import film
from adapt.spaces.full import full

__all__ = ["default_space"]


def default_space(backbone: nn.Module) -> Space:
    """:func:`~adapt.spaces.film` where the network has norms, else :func:`~adapt.spaces.full`.

    Raises:
        AdaptError: the backbone has no parameters.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU())
        >>> default_space(network).name, default_space(network[0]).name
        ('film', 'full')
    """
    try:
        return film(backbone)
    except AdaptError:
        return full(backbone)
