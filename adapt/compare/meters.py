"""Counters of energy: of a GPU, of processors, or an estimate where the machine has none that can be read.

======== ==================================================================== =========
counter  what it reads                                                        kind
======== ==================================================================== =========
Nvml     the GPU's own counter (``nvmlDeviceGetTotalEnergyConsumption``)      measured
Rapl     all processor packages (``/sys/class/powercap``), without memory     measured
Estimate TDP of the processor × the share of its threads that we keep busy    estimated
======== ==================================================================== =========

Measured counters see the whole machine, whoever uses it; the estimate sees this process only. A comparison on
a GPU adds up GPU and processors. It is called measured only if all of its parts are.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from csv import DictReader
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

__all__ = ["Counter", "Estimate", "Meter", "Nvml", "Rapl", "find_meter", "thermal_design_power"]

POWERCAP = Path("/sys/class/powercap")
CPUINFO = Path("/proc/cpuinfo")
#: What codecarbon assumes of a processor that its table does not know, watts per thread.
DEFAULT_WATTS = 4.0


class Counter(Protocol):
    """Energy since some moment.

    Attributes:
        measured: read from the machine, not estimated.
        shortest: seconds over which it should at least be read: twenty of its ticks or more.
    """

    @property
    def measured(self) -> bool: ...

    @property
    def shortest(self) -> float: ...

    def joules(self) -> float: ...

    def __str__(self) -> str: ...


class Nvml:
    """Energy counter of one NVIDIA GPU (Volta and later), whichever number CUDA gives it.

    Raises:
        ImportError: nvidia-ml-py is not installed.
        RuntimeError: the device has no such counter, as a slice of a GPU (MIG).
    """

    measured = True
    shortest = 2.0  # it is updated every 20 to 100 ms

    def __init__(self, device: torch.device, nvml: Any = None) -> None:
        if nvml is None:
            import pynvml

            nvml = pynvml
        self._nvml = nvml
        uuid = torch.cuda.get_device_properties(device).uuid
        try:
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            self.joules()
        except nvml.NVMLError as error:
            raise RuntimeError(f"no energy counter of {device}: {error}") from None

    def joules(self) -> float:
        """Since the driver was loaded."""
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3

    def __str__(self) -> str:
        return "GPU measured (NVML)"


class Rapl:
    """Running average power limit: counters of microjoules, one per processor package (Intel and AMD).

    They start anew at a limit of their own, after minutes to hours: this is noticed if they are read at least
    once in between. Most systems let only root read them.

    Raises:
        OSError: there are none, or they may not be read.
    """

    measured = True
    shortest = 0.25  # they are updated every millisecond, but see whatever else the machine does

    def __init__(self, root: Path = POWERCAP) -> None:
        zones = sorted(
            zone for zone in root.glob("intel-rapl:*") if re.fullmatch(r"intel-rapl:\d+", zone.name)
        )
        self._zones = [zone for zone in zones if _read(zone / "name").startswith("package")]
        if not self._zones:
            raise OSError(f"no processor package in {root}")
        self._limits = [int(_read(zone / "max_energy_range_uj")) for zone in self._zones]
        self._last = self._counts()
        self._total = 0

    def joules(self) -> float:
        """Since this counter was made."""
        counts = self._counts()
        for now, before, limit in zip(counts, self._last, self._limits, strict=True):
            # The largest count is followed by 0.
            self._total += now - before if now >= before else now - before + limit + 1
        self._last = counts
        return self._total / 1e6

    def _counts(self) -> list[int]:
        return [int(_read(zone / "energy_uj")) for zone in self._zones]

    def __str__(self) -> str:
        return "processors measured (RAPL)"


class Estimate:
    """Seconds that this process computes, on all threads, times the thermal design power per thread.

    That is codecarbon's estimate of a process: TDP × load. A virtual machine that shares a processor is
    charged for all of it at full load. ``watts``: TDP; ``clock``: processor seconds of this process.
    """

    measured = False
    shortest = 0.1  # the clock is exact; several adaptations even out what disturbs one

    def __init__(self, watts: float, threads: int, clock: Callable[[], float] = time.process_time) -> None:
        self._watts, self._threads, self._clock = watts, threads, clock

    def joules(self) -> float:
        """Since the process was started."""
        return self._watts / self._threads * self._clock()

    def __str__(self) -> str:
        return f"processors estimated ({self._watts:g} W at full load of {self._threads} threads)"


@dataclass(frozen=True)
class Meter:
    """Everything that takes electricity, together."""

    counters: Sequence[Counter]

    @property
    def source(self) -> str:
        """ "measured" if all parts are, else "estimated"."""
        return "measured" if all(counter.measured for counter in self.counters) else "estimated"

    @property
    def shortest(self) -> float:
        """Seconds over which it should at least be read."""
        return max(counter.shortest for counter in self.counters)

    def joules(self) -> float:
        """Since some moment."""
        return sum(counter.joules() for counter in self.counters)

    def __str__(self) -> str:
        return ", ".join(map(str, self.counters))


def find_meter(device: torch.device) -> Meter | None:
    """The best meter of what computing on ``device`` takes; None where part of it has none at all."""
    processors = _processors()
    if processors is None:
        return None
    if device.type != "cuda":
        return Meter((processors,))
    try:
        return Meter((Nvml(device), processors))
    except (ImportError, RuntimeError):
        return None


def _processors() -> Counter | None:
    with suppress(OSError, ValueError):
        return Rapl()
    watts = thermal_design_power(processor_name())
    return None if watts is None else Estimate(watts, os.cpu_count() or 1)


@lru_cache
def thermal_design_power(name: str) -> float | None:
    """Watts of the processor called ``name``, from the table that comes with codecarbon; for one that is not
    in it, codecarbon's default per thread. None if codecarbon is not installed. The longest known name whose
    words are all in ``name`` counts, of two as long the first.

    Only the table is read: importing codecarbon takes seconds, and its tracker wants to log and to look up
    where in the world it is.
    """
    found = find_spec("codecarbon")
    if found is None or not found.submodule_search_locations:
        return None
    table = Path(found.submodule_search_locations[0]) / "data" / "hardware" / "cpu_power.csv"
    watts: dict[float, float] = {}
    wanted = _words_of(name)
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            for row in DictReader(file):
                known = _words_of(row["Name"])
                # A lone number may stand for anything. Some rows hold no number at all.
                if len(known) > 1 and known <= wanted:
                    with suppress(ValueError):
                        watts.setdefault(len(known), float(row["TDP"]))
    return watts[max(watts)] if watts else DEFAULT_WATTS * (os.cpu_count() or 1)


def processor_name() -> str:
    """As the processor calls itself; empty if it does not say."""
    with suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE):
            return found[1]
    import platform

    return platform.processor()


def _words_of(name: str) -> frozenset[str]:
    """``Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz`` → intel, xeon, e5-2690, v4."""
    plain = re.sub(r"\((r|tm)\)|\bcpu\b|@.*|\b\d+-core processor\b", " ", name.lower())
    return frozenset(plain.split())


def _read(path: Path) -> str:
    return path.read_text().strip()
