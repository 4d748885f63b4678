"""What may move while a backbone adapts: named tensors of it (FiLM, biases, all), and low-dimensional
subspaces of those."""

from adapt.spaces.base import Space, named
from adapt.spaces.bias import bias
from adapt.spaces.film import film
from adapt.spaces.full import full
from adapt.spaces.subspace import Subspace

__all__ = ["Space", "Subspace", "bias", "film", "full", "named"]
