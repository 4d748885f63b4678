"""What may move while a backbone adapts: named tensors of it (FiLM, biases, all), and low-dimensional
subspaces of those."""

from adapt.spaces.base import Space
from adapt.spaces.bias import bias
from adapt.spaces.film import film
from adapt.spaces.full import full
from adapt.spaces.subspace import Subspace

__all__ = ["SPACES", "Space", "Subspace", "bias", "film", "full"]

#: The built-in spaces by the name that saved adapters record.
SPACES = {"bias": bias, "film": film, "full": full}
