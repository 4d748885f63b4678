"""What a prediction costs: measured on this machine, once the fit is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from adapt.adapter import FittedTask
from adapt.compare.energy import mean_power
from adapt.compare.meters import find_meter
from adapt.own_data.passes import as_inputs

__all__ = ["InferenceCost", "inference_cost"]

#: Examples at a time; each is repeated so often, or for so many seconds.
BATCHES, REPEATS, SECONDS = (1, 8, 64), 10, 0.3


@dataclass(frozen=True)
class InferenceCost:
    """Of predictions, reading of files not included.

    Attributes:
        milliseconds: of one example alone, median.
        per_second: examples in a second, by how many are predicted at a time.
        megabytes: of the numbers of the network and the head (10⁶ bytes).
        wh_per_1000: electricity of 1,000 predictions, 64 at a time, watt-hours; None: not known.
        energy: how that was found out, in words.
        device: where.
    """

    milliseconds: float
    per_second: dict[str, float]
    megabytes: float
    wh_per_1000: float | None
    energy: str
    device: str

    def sentence(self) -> str:
        """In words."""
        many, rate = max(self.per_second.items(), key=lambda it: it[1])
        used = "" if self.wh_per_1000 is None else f", {self.wh_per_1000:.2g} Wh for 1,000 ({self.energy})"
        return (
            f"{self.milliseconds:.3g} ms for one example, {rate:,.0f} in a second {many} at a time{used}; "
            f"{self.megabytes:,.1f} MB; on {self.device}"
        )

    def metrics(self) -> dict[str, float]:
        """Of a run."""
        found = {
            "inference/milliseconds": self.milliseconds,
            "inference/per_second": max(self.per_second.values()),
            "inference/megabytes": self.megabytes,
        }
        return found | ({} if self.wh_per_1000 is None else {"inference/wh_per_1000": self.wh_per_1000})

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def inference_cost(task: FittedTask, x: Sequence[str] | np.ndarray) -> InferenceCost:
    """Of ``task``, on some of the examples ``x [n, …]``, at least one."""
    device = task.z.device
    rows = {size: np.arange(size) % len(x) for size in BATCHES}
    inputs = {size: as_inputs(x, rows[size]) for size in BATCHES}
    seconds = {size: _seconds(partial(task.logits, inputs[size])) for size in BATCHES}
    largest = BATCHES[-1]
    meter = find_meter(device)
    watts = None if meter is None else mean_power(partial(task.logits, inputs[largest]), meter, device)
    network = [*task.adapter.backbone.parameters(), *task.adapter.backbone.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in [*network, task.head_state])
    return InferenceCost(
        1000 * seconds[1],
        {str(number): number / seconds[number] for number in BATCHES},
        size / 1e6,
        None if watts is None else watts * seconds[largest] / largest * 1000 / 3600,
        "" if meter is None else meter.source,
        device.type.upper(),
    )


def _seconds(work: Callable[[], Any]) -> float:
    """Median, after one that warms up."""
    work()
    found: list[float] = []
    begun = time.perf_counter()
    while len(found) < REPEATS and (len(found) < 2 or time.perf_counter() - begun < SECONDS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return median(found)
