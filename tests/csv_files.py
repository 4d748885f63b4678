"""CSV files for tests, and sources read from them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

__all__ = ["from_csv", "patients", "walks"]

T = TypeVar("T")


def from_csv(build: Callable[[str], T], text: str) -> T:
    """`build(path)` of a file that holds `text`, and is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(text, encoding="utf-8")
        return build(str(path))


def patients(groups: int = 8, each: int = 12) -> str:
    """Patients of hospitals: two numbers, a category, a label and a value that depend on them by hospital."""
    rng = np.random.default_rng(0)
    lines = ["age,dose,site,hospital,label,value"]
    for group in range(groups):
        slope = rng.normal()
        for row in range(each):
            age, dose, site = rng.uniform(20, 80), rng.uniform(0, 5), "abc"[row % 3]
            label = ("well", "ill")[row % 2]
            lines.append(f"{age:.3f},{dose:.3f},{site},h{group},{label},{slope * dose + age / 20:.4f}")
    return "\n".join(lines)


def walks(series: int = 6, steps: int = 50) -> str:
    """Random walks, one per column, with a column of dates."""
    rng = np.random.default_rng(1)
    values = np.exp(0.05 * rng.standard_normal((steps, series)).cumsum(0))
    dates = np.datetime64("2024-01-01") + np.arange(steps)
    lines = ["time," + ",".join(f"s{i}" for i in range(series))]
    lines += [f"{date}," + ",".join(f"{v:.6f}" for v in row) for date, row in zip(dates, values, strict=True)]
    return "\n".join(lines)
