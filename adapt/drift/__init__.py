"""Noticing in operation that examples are no longer what a model was made for."""

from adapt.drift.martingale import Martingale
from adapt.drift.monitor import FALSE_ALARMS, Alarm, Monitor

__all__ = ["FALSE_ALARMS", "Alarm", "Martingale", "Monitor"]
