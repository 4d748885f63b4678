"""Seconds, FLOPs and bytes of one adaptation, measured from outside."""

import ctypes
import gc
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._C import DispatchKey
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["ProcessPeak", "Stopwatch", "count_flops", "peak_megabytes", "synchronise"]


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
    backward passes included, by the formulas of ``torch.utils.flop_counter``."""
    with _Flops() as counter:
        work()
    return counter.total


class _Flops(TorchDispatchMode):
    """What torch's ``FlopCounterMode`` adds up, in half of its time: that also keeps books by module, enters
    itself again for every operation, and waits for the import of torch's compiler, to keep it off."""

    total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd):
            with self:  # under inference_mode operations come whole
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


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
    # torch.profiler.profile does the same, but imports torch's compiler first: three seconds.
    with _quiet_stderr(), torch.autograd.profiler.profile(profile_memory=True) as profiler:
        work()
    assert profiler.kineto_results is not None
    events = profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak / 1e6


class ProcessPeak:
    """The most memory that the process held inside the ``with`` block beyond what it held before, MB (10⁶
    bytes): everything counts, scratch buffers of libraries and what the allocator wastes included.

    A process keeps freed memory for what comes next, much of it with
    :func:`adapt.memory.keep_freed_memory`; work that fits into what an earlier method left behind would seem
    to need none. So everything that is free goes back to the system first (glibc only; elsewhere the figure
    may be too small). Linux keeps the exact peak itself; elsewhere a thread looks every millisecond.

    Attributes:
        megabytes: known after the block; None if it cannot be found out here.
    """

    megabytes: float | None = None

    def __enter__(self) -> "ProcessPeak":
        gc.collect(1)  # the young generations: all of them take longer than most adaptations
        _give_back_freed_memory()
        self._peak = _kernel_peak() or _sampled_peak()
        return self

    def __exit__(self, *_: object) -> None:
        if self._peak is not None:
            self.megabytes = max(self._peak(), 0) / 1e6


#: Ends the measurement: bytes beyond those at its beginning.
Peak = Callable[[], int]
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def _kernel_peak() -> Peak | None:
    """Linux: the high-water mark of the resident set, which can be reset."""
    try:
        RESET.write_text("5")  # proc(5)
    except OSError:
        return None
    before = _resident("VmRSS")
    return lambda: _resident("VmHWM") - before


def _resident(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None, f"{STATUS} has no {field}"
    return 1024 * int(found[1])


def _sampled_peak() -> Peak | None:
    """Elsewhere: a thread that looks at the resident set every millisecond."""
    try:
        import psutil
    except ImportError:
        return None
    process = psutil.Process()
    before = process.memory_info().rss
    seen, done = [before], threading.Event()

    def look() -> None:
        while not done.wait(0.001):
            seen[0] = max(seen[0], process.memory_info().rss)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()

    def end() -> int:
        done.set()
        thread.join()
        return max(seen[0], process.memory_info().rss) - before

    return end


def _give_back_freed_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


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
