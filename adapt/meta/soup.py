"""One start for many domains: the middle of several starts, and the directions in which they differ.

    d_i = φ_i − φ ,  i = 1 … T ,   d_0 = 0: the network as it is, φ, is one of them
    φ₀ = φ + d̄ ,   D − 1 d̄ᵀ = A Σ Vᵀ ,   U = r · V_k Σ_k / √(T + 1)

Wortsman et al. (2022), *Model Soups: Averaging Weights of Multiple Fine-tuned Models Improves Accuracy
without Increasing Inference Time*, section 2 (a uniform soup); Ilharco et al. (2023), *Editing Models with
Task Arithmetic*, equation 1: d_i are their task vectors. Here a task finds its own mixture: as principal
components with their standard deviations, the directions make z ~ N(0, I) the prior of which domain it is of.
A domain is left out by leaving out its start.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.loading import load
from adapt.adapter.state import AdapterState, initial_state
from adapt.errors import AdaptError
from adapt.spaces import Space

__all__ = ["around_their_mean", "leading", "origins_of", "soup"]


def soup(space: Space, origins: Tensor, k: int, *, radius: float = 1.0) -> AdapterState:
    """The state between ``origins [T, P]`` and the network as it is, along k directions (T at most).

    Example:
        >>> from adapt.spaces import full
        >>> space = full(nn.Linear(1, 1, bias=False))
        >>> state = soup(space, space.initial + torch.tensor([[3.0]]), 1)
        >>> round((state.origin - space.initial).item(), 4), round(abs(state.basis).item(), 4)
        (1.5, 1.5)
    """
    moves = torch.cat([torch.zeros_like(space.initial)[None], origins - space.initial])
    return around_their_mean(space.initial, moves, min(k, len(origins)), radius)


def around_their_mean(initial: Tensor, moves: Tensor, k: int, radius: float = 1.0) -> AdapterState:
    """φ₀ in the middle of what ``moves [T, P]`` lead to, U the directions in which they differ, with their
    standard deviations."""
    mean = moves.mean(0)
    values, directions = leading(moves - mean, k)
    return initial_state(initial + mean, directions * (radius * values / len(moves) ** 0.5))


def leading(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The largest singular values ``[k]`` and their right singular vectors ``[P, k]``."""
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    # What no task moves must be zero exactly, which the decomposition leaves as a rounding error.
    return values[:k], directions[:k].T * rows.any(0).to(rows.dtype)[:, None]


def origins_of(names: Sequence[str], backbone: nn.Module, space: Space) -> Tensor:
    """φ₀ of saved adapters ``[T, P]``, by their folders or shipped names.

    Raises:
        AdaptError: one of another network or space, or no adapter.
    """
    found = []
    for name in names:
        adapter = load(name, backbone)
        if not isinstance(adapter, FewShotAdapter) or adapter.space.shapes != space.shapes:
            raise AdaptError(
                f"meta.starts: {name} is no adapter of space '{space.name}' with its {space.size} numbers: "
                "make all of them with the same space"
            )
        found.append(adapter.state.origin)
    return torch.stack(found)
