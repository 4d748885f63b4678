"""Several kinds of strangeness at once, and an alarm whose chance of being false is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

from adapt.checks import Number, check_setting
from adapt.drift.martingale import Martingale
from adapt.errors import AdaptError

__all__ = ["FALSE_ALARMS", "Alarm", "Monitor"]

#: The share of streams without a change in which there is an alarm, at most.
FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Alarm:
    """What was noticed.

    Attributes:
        signal: which kind of strangeness.
        example: the number of the example at which it was noticed, from 1.
        evidence: log10 of the odds against chance, see :mod:`adapt.drift.martingale`.
    """

    signal: str
    example: int
    evidence: float


class Monitor:
    """Looks at examples one by one.

    Args:
        usual: how strange examples are of which nothing is wrong, by signal.
        false_alarms: the chance that there is ever an alarm if nothing changes; over all signals together.
        seed: of the order among equals.

    Raises:
        AdaptError: nothing to look at, or no such chance.

    Example:
        >>> monitor = Monitor({"far": [0.1, 0.2, 0.3] * 20})
        >>> for strange in [0.2, 0.1, 0.3, 0.9, 0.8, 0.9, 0.7, 0.8]:
        ...     monitor.see({"far": strange})
        >>> monitor.alarm.signal, monitor.alarm.example
        ('far', 5)
    """

    def __init__(
        self, usual: Mapping[str, Sequence[float]], *, false_alarms: float = FALSE_ALARMS, seed: int = 0
    ) -> None:
        chance = Number(above=0, below=1, why="a share of streams")
        self.false_alarms = check_setting("false_alarms", false_alarms, chance)
        if not any(len(scores) for scores in usual.values()):
            raise AdaptError("nothing is known of usual examples: give some that nothing was learned from")
        self._signals = {name: Martingale(scores, seed) for name, scores in usual.items() if len(scores)}
        self.limit = log10(len(self._signals) / self.false_alarms)
        self.seen = 0
        self.alarm: Alarm | None = None

    @property
    def evidence(self) -> dict[str, float]:
        """log10 by signal; an alarm is at :attr:`limit`."""
        return {name: signal.evidence for name, signal in self._signals.items()}

    def see(self, strange: Mapping[str, float]) -> None:
        """Look at one more example; signals that it does not have, or that are not looked at, are left
        out."""
        self.seen += 1
        for name in self._signals.keys() & strange.keys():
            found = self._signals[name].see(strange[name])
            if found >= self.limit and self.alarm is None:
                self.alarm = Alarm(name, self.seen, found)
