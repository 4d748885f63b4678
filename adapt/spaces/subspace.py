"""A low-dimensional affine subspace of a space: where few-shot adaptation actually happens.

    φ(z) = φ₀ + U z ,   z ∈ R^k

Li et al. (2018), *Measuring the Intrinsic Dimension of Objective Landscapes*, equation 2, with a random U;
here φ₀ and U are learned over tasks. With k small, k exact tangents give the whole Jacobian of the network
with respect to z.
"""

from dataclasses import dataclass

from torch import Tensor

from adapt.errors import AdaptError
from adapt.precision import full_precision, wide
from adapt.spaces.base import Space

__all__ = ["Subspace"]


@dataclass(frozen=True)
class Subspace:
    """``z [k] → parameters`` of the ``space`` around ``origin`` φ₀ ``[P]`` along the columns of ``basis`` U
    ``[P, k]``; a ``basis [P]`` stands for a diagonal U, with k = P.

    Example:
        >>> import torch
        >>> from adapt.backbones import Conv4
        >>> from adapt.spaces import film
        >>> space = film(Conv4())
        >>> subspace = Subspace(space, space.initial, torch.zeros(space.size, 8))
        >>> subspace.k
        8
    """

    space: Space
    origin: Tensor
    basis: Tensor

    def __post_init__(self) -> None:
        size = self.space.size
        if self.origin.shape != (size,) or self.basis.ndim not in (1, 2) or len(self.basis) != size:
            raise AdaptError(
                f"origin {tuple(self.origin.shape)} and basis {tuple(self.basis.shape)} do not "
                f"fit the {size} parameters of "
                f"space '{self.space.name}': expected [{size}] and [{size}, k]"
            )

    @property
    def k(self) -> int:
        """Dimension of z."""
        return self.basis.shape[-1]

    @full_precision
    def move(self, z: Tensor) -> Tensor:
        """U z ``[P]``, in float32 or wider."""
        basis = wide(self.basis)
        return basis @ z if basis.ndim == 2 else basis * z

    def parameters(self, z: Tensor) -> dict[str, Tensor]:
        """The adapted tensors at ``z [k]``, by name; differentiable and vmappable."""
        return self.space.parameters(self.origin + self.move(z))
