"""Random numbers and estimates of gradients, from seeds alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from adapt.forward.estimators import Estimator

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64).to(dtype)


def draws(estimator: Estimator, f: Callable[[Tensor], Tensor], x: Tensor, n: int) -> Tensor:
    """``[n, P]``: n independent estimates."""
    generator = seeded()
    return vmap(lambda _: estimator(f, x, generator=generator)[1], randomness="different")(torch.zeros(n))
