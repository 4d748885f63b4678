"""Sources with planted mistakes for the audit, and ways to read its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tasks import Card
from tasks.audit import Finding, Report

__all__ = ["CARD", "POOLS", "SIDE", "found", "members", "noise", "pictures", "places", "the"]

CARD = Card(
    "planted",
    "Noise.",
    "made here",
    "CC0",
    "None.",
    {"examples": 80},
    (),
    "None.",
    "testing",
    commercial=True,
)
SIDE = 16


def members(**splits: Mapping[str, Sequence[int]]) -> dict[str, dict[str, np.ndarray]]:
    return {split: {name: np.array(rows) for name, rows in by.items()} for split, by in splits.items()}


#: 40 examples to learn from, 40 to judge on; two classes, the same in both.
POOLS = members(support={"a": range(20), "b": range(20, 40)}, query={"a": range(40, 60), "b": range(60, 80)})


def noise(n: int = 80, shape: tuple[int, ...] = (7,), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def found(report: Report, check: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == check]


def the(report: Report, check: str) -> Finding:
    (finding,) = found(report, check)
    return finding


def places(finding: Finding) -> list[tuple[int, ...]]:
    return [tuple(place.index for place in example) for example in finding.examples]


def pictures(n: int = 80) -> np.ndarray:
    """Random images, uint8 [n, 1, 16, 16]."""
    return np.random.default_rng(0).integers(0, 256, (n, 1, SIDE, SIDE), np.uint8)
