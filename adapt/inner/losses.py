"""Losses of the inner problem with what Gauss–Newton needs of them: values, gradient and curvature in the
outputs.

For outputs o = F(z) ∈ R^{n×C} with Jacobian J ∈ R^{n×C×k} and a loss ℓ convex in o, the generalised
Gauss–Newton matrix is Σ_i J_iᵀ ∇²ℓ(o_i) J_i (Schraudolph 2002, *Fast Curvature Matrix-Vector Products*,
section 3).
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from adapt.heads.base import check_outputs

__all__ = ["CrossEntropy", "Loss", "SquaredError"]


class Loss(Protocol):
    """Outputs and targets ``[n, C]``. ``regression`` says whether targets are values rather than classes."""

    @property
    def regression(self) -> bool: ...

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ_i of each example ``[n]``."""
        ...

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """∂ℓ/∂outputs ``[n, C]``."""
        ...

    def curvature(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """∇²ℓ(outputs) applied to each column of ``columns [k, n, C]``."""
        ...

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Σ_i ℓ_i, scalar."""
        return self.values(outputs, targets).sum()


@dataclass(frozen=True)
class SquaredError(Loss):
    """ℓ = ½ Σ ‖o_i − y_i‖²; gradient r = o − y; curvature the identity."""

    regression: bool = True

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        check_outputs(outputs, targets)
        return 0.5 * (outputs - targets).square().sum(-1)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs - targets

    def curvature(self, outputs: Tensor, columns: Tensor) -> Tensor:
        return columns


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """ℓ = −Σ y_i · log softmax(o_i); gradient p − y; curvature diag p − p pᵀ. Targets are rows that sum to
    one."""

    regression: bool = False

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        check_outputs(outputs, targets)
        return -(targets * outputs.log_softmax(-1)).sum(-1)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.softmax(-1) - targets

    def curvature(self, outputs: Tensor, columns: Tensor) -> Tensor:
        p = outputs.softmax(-1)  # [n, C]
        return p * columns - p * (p * columns).sum(-1, keepdim=True)
