"""Timing that benchmarks share: in units of one forward pass, interleaved, as a machine's speed drifts."""

import time
from collections.abc import Callable, Mapping

__all__ = ["Work", "interleaved", "timed"]

MOST_ROUNDS = 25

Work = Callable[[], object]


def timed(work: Work) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(
    forward: Work, contenders: Mapping[str, Work], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of every contender in units of a forward pass, by round.

    Each contender is divided by the mean of the forward passes just before and after it, since the speed of a
    shared machine drifts. At least ``rounds`` rounds, then more until the ``seconds`` are used up; but
    ``reference``, by far the slowest, gets no more than ``rounds``.
    """
    ratios: dict[str, list[float]] = {name: [] for name in contenders}
    ratios["forward seconds"] = []
    started = time.perf_counter()
    for n in range(MOST_ROUNDS):
        if n >= rounds and time.perf_counter() - started > seconds:
            break
        before = timed(forward)
        for name, work in contenders.items():
            if name == "reference" and n >= rounds:
                continue
            taken = timed(work)
            after = timed(forward)
            ratios[name].append(2 * taken / (before + after))
            ratios["forward seconds"].append(after)
            before = after
    return ratios
