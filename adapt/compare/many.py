"""How many tasks a comparison may have, and how long drawing more would take."""

import time
from typing import Any

from adapt.checks import TASKS, Number, check_setting
from adapt.errors import AdaptError

__all__ = ["available", "check_count"]

#: No message writes out a larger number.
LARGEST = 10**18
YEAR = 365.25 * 86_400
#: How seconds are said, from the longest on.
UNITS = {"years": YEAR, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}


def check_count(count: Any, tasks: Any) -> int:
    """``count``, the number of ``tasks`` (a distribution) that are asked for, as one of Python; where tasks
    are fixed, no more than there are.

    Raises:
        AdaptError: no whole number, none, or more than anybody waits for; the message says how long drawing
            them would take on this machine, measured on one.
    """
    count = check_setting("task.tasks", count, Number(whole=True, least=1, why="at least one task is needed"))
    there = available(tasks)
    if there is not None:
        return int(min(count, there))
    if count <= TASKS:
        return count
    started = time.perf_counter()
    tasks.episode(0)
    each = time.perf_counter() - started
    shown = f"task.tasks={count}" if count <= LARGEST else f"task.tasks>{LARGEST}"
    raise AdaptError(
        f"{shown} would take {_said(each * min(count, LARGEST))} to draw alone ({1000 * each:.2g} ms each on "
        f"this machine), and adapting to them longer: use task.tasks<={TASKS:,}"
    )


def available(tasks: Any) -> int | None:
    """How many tasks there are where they are fixed; None: as many as one likes."""
    return tasks.count if getattr(tasks, "fixed", False) else None


def _said(seconds: float) -> str:
    unit = next((unit for unit, length in UNITS.items() if seconds >= 2 * length), "seconds")
    return f"about {seconds / UNITS[unit]:,.0f} {unit}"
