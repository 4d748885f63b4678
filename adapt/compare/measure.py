"""Seconds, FLOPs and bytes of one adaptation, measured from outside."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Stopwatch", "count_flops", "peak_megabytes", "synchronise"]


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has finished what it was given (nothing to do on CPU)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Wall clock that can be paused, so that watching a method does not cost it time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._elapsed = 0.0
        self._started: float | None = None

    def start(self) -> "Stopwatch":
        """Start or go on."""
        synchronise(self._device)
        self._started = time.perf_counter()
        return self

    def stop(self) -> float:
        """Pause; returns the seconds so far."""
        synchronise(self._device)
        if self._started is not None:
            self._elapsed += time.perf_counter() - self._started
            self._started = None
        return self._elapsed


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in ``work``, forward tangents and
    backward passes included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_megabytes(work: Callable[[], object], device: torch.device) -> float:
    """Largest amount of memory (MB, 10⁶ bytes) that tensors made in ``work`` held at one time, beyond what
    was allocated before.

    On CUDA the allocator's own counter; on CPU the running sum of the allocator events that the profiler
    records. Unlike the resident set of the process it does not depend on what ran earlier.
    """
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        synchronise(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with (
        _quiet_stderr(),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler,
    ):
        work()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak / 1e6


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """The profiler of torch 2.13 writes a trace line to the C-level stderr on every start and stop; no
    setting turns it off."""
    sys.stderr.flush()
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
