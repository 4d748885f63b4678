"""Electricity of an adaptation, what it emits, and what it costs.

The energy of a method is its mean power, measured once over repeated adaptations, times its mean seconds per
task: counters of energy tick every millisecond (processors) to tenth of a second (GPUs), too coarse to read
around one adaptation of some milliseconds. See :mod:`adapt.compare.meters` for what is read.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from adapt.checks import between, check_settings
from adapt.compare.measure import synchronise
from adapt.compare.meters import Meter

__all__ = ["Cost", "Electricity", "mean_power"]


class Cost(NamedTuple):
    """Of one adaptation.

    Attributes:
        energy_wh: electricity that the machine took, watt-hours; None if it is not known.
        co2_g: emissions of generating it, overhead of the building included, grams; None likewise.
        usd: price of the electricity, overhead included, and of the rented time; None if part is unknown.
    """

    energy_wh: float | None
    co2_g: float | None
    usd: float | None


@dataclass(frozen=True)
class Electricity:
    """What electricity emits and costs.

    Attributes:
        enabled: False measures nothing.
        grid_g_per_kwh: grams of CO₂ per kilowatt-hour.
        pue: power usage effectiveness: electricity of the building ÷ that of the machine.
        usd_per_kwh: price of electricity; 0 where the rent includes it.
        usd_per_hour: rent of the machine; 0: only electricity is paid.

    Raises:
        AdaptError: a negative price or intensity, or a pue below 1.
    """

    enabled: bool = True
    grid_g_per_kwh: float = 473.0
    pue: float = 1.0
    usd_per_kwh: float = 0.15
    usd_per_hour: float = 0.0

    def __post_init__(self) -> None:
        price = between(0, None, "give a number that is not negative")
        check_settings(
            self,
            "energy",
            grid_g_per_kwh=price,
            usd_per_kwh=price,
            usd_per_hour=price,
            pue=between(1, None, "a building takes at least what its machines take, give ≥ 1"),
        )

    def cost(self, watts: float | None, seconds: float) -> Cost:
        """Of ``seconds`` at a mean power of ``watts``; None: the power is not known.

        Example:
            >>> energy = Electricity(grid_g_per_kwh=400, pue=1.5, usd_per_kwh=0.2, usd_per_hour=3)
            >>> energy.cost(watts=1000.0, seconds=3600.0)
            Cost(energy_wh=1000.0, co2_g=600.0, usd=3.3)
        """
        hours = seconds / 3600
        rent = hours * self.usd_per_hour
        if watts is None:
            return Cost(None, None, rent if self.usd_per_kwh == 0 and rent > 0 else None)
        energy = watts * hours
        kwh = self.pue * energy / 1000
        return Cost(energy, kwh * self.grid_g_per_kwh, kwh * self.usd_per_kwh + rent)

    def to_dict(self) -> dict[str, Any]:
        """The assumptions, JSON-ready."""
        return {key: value for key, value in asdict(self).items() if key != "enabled"}


def mean_power(
    work: Callable[[], object],
    meter: Meter,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Mean watts while ``work`` is repeated: at least once, and until the stretch is long enough for every
    counter of ``meter``. None if the counters stood still, as those of a virtual machine may."""
    synchronise(device)
    joules, start = meter.joules(), clock()
    while True:
        work()
        synchronise(device)
        seconds = clock() - start
        if seconds >= meter.shortest:
            break
    joules = meter.joules() - joules
    return joules / seconds if joules > 0 and seconds > 0 else None
