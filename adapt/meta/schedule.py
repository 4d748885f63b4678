"""The learning rate over the steps of a training.

Smith and Topin (2018), *Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates*.
"""

from collections.abc import Sequence
from math import isclose

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

__all__ = ["one_cycle"]


def one_cycle(optimizer: Optimizer, peaks: float | Sequence[float], steps: int, rise: float) -> OneCycleLR:
    """Rates that rise to ``peaks`` during the share ``rise`` of ``steps``, and fall to 0. A single step is
    taken at the peak, and of two the first near it: with a rise and a fall they would train nothing.

    torch divides by the steps of the rise less one: one of exactly a single step takes half a step more.
    """
    if steps == 1:
        return OneCycleLR(optimizer, _each(peaks), 1, div_factor=1, final_div_factor=1)
    rise = min(rise, 0.25) if steps == 2 else 1.5 / steps if isclose(rise * steps, 1.0) else rise
    return OneCycleLR(optimizer, _each(peaks), steps, pct_start=rise)


def _each(peaks: float | Sequence[float]) -> float | list[float]:
    return [*peaks] if isinstance(peaks, Sequence) else peaks
