"""Electricity of an adaptation, what it emits, and what it costs."""

from dataclasses import dataclass

__all__ = ["Electricity"]


@dataclass(frozen=True)
class Electricity:
    """What electricity emits and costs.

    Attributes:
        enabled: False measures nothing.
        grid_g_per_kwh: grams of CO₂ per kilowatt-hour.
        pue: power usage effectiveness: electricity of the building ÷ that of the machine.
        usd_per_kwh: price of electricity.
        usd_per_hour: rent of the machine; 0: only electricity is paid.
    """

    enabled: bool = True
    grid_g_per_kwh: float = 473.0
    pue: float = 1.0
    usd_per_kwh: float = 0.15
    usd_per_hour: float = 0.0
