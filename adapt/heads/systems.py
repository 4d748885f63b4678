"""Symmetric positive definite systems of heads, solved without ever raising.

    (G + r I) δ = b ,    r at least a rounding error of G

A factorisation that raises on a singular system would stop all tasks of a batch for the sake of one. With r
above the rounding of G there is nothing to raise; a system that is no numbers gives a solution that is none,
of its own task alone.
"""

import torch
from torch import Tensor

__all__ = ["cholesky", "floored", "inverse", "regularised", "solve"]


def floored(gram: Tensor, ridge: float | Tensor) -> Tensor:
    """``ridge``, or the rounding error of ``gram [m, m]`` if that is larger: less than that changes nothing
    but whether the system is singular."""
    rounding = gram.shape[-1] * torch.finfo(gram.dtype).eps * gram.diagonal().detach().mean()
    return torch.maximum(torch.as_tensor(ridge, dtype=gram.dtype, device=gram.device), rounding)


def regularised(gram: Tensor, ridge: float | Tensor) -> Tensor:
    """G + r I ``[m, m]``, with r = ``ridge``, :func:`floored`."""
    return gram + floored(gram, ridge) * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def solve(system: Tensor, right: Tensor) -> Tensor:
    """``system⁻¹ right``: ``[m, m]``, ``[m, …]``; differentiable and vmappable, never raises."""
    result: Tensor = torch.linalg.solve_ex(system, right)[0]
    return result


def inverse(system: Tensor) -> Tensor:
    """``system⁻¹ [m, m]``; differentiable and vmappable, never raises."""
    result: Tensor = torch.linalg.inv_ex(system)[0]
    return result


def cholesky(system: Tensor) -> Tensor:
    """L ``[m, m]`` with L Lᵀ = ``system``; NaN where there is none; differentiable and vmappable, never
    raises."""
    factor, failed = torch.linalg.cholesky_ex(system)
    return torch.where(failed == 0, factor, torch.nan)
