"""What the machine does while a run is open, by MLflow's own collectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

__all__ = ["SystemMetrics", "collectors"]

#: Where MLflow's UI looks for them.
PREFIX = "system/"


def collectors() -> list[Any]:
    """MLflow's collectors of CPU, memory, disk, network, and GPU where there is one; none without psutil."""
    try:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    except ImportError:
        return []
    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # no NVML, or no GPU
        found.append(GPUMonitor())
    return found


class SystemMetrics:
    """Samples every ``seconds`` in a thread of its own until :meth:`stop`; a sample takes some milliseconds.

    Steps count intervals of the clock, so those of a run that goes on after an interruption go on too.
    """

    def __init__(self, record: Callable[[Mapping[str, float], int], object], seconds: float) -> None:
        """``record`` gets metrics by name, and their step; it must not raise."""
        self._record, self._seconds = record, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="adapt-system-metrics", daemon=True)

    def start(self) -> None:
        """Begin; the first sample comes after one interval, since utilisation is that of an interval."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when nothing more is recorded."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        monitors = collectors()
        for monitor in monitors:
            monitor.collect_metrics()
            monitor.clear_metrics()
        while monitors and not self._stopped.wait(self._seconds):
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            self._record(
                {PREFIX + name: value for name, value in values.items()}, int(time.time() / self._seconds)
            )
