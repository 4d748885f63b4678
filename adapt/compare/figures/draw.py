"""All figures that a comparison has the data for, as files."""

from __future__ import annotations

from pathlib import Path

from adapt.compare.comparison import Comparison
from adapt.compare.figures.break_even import break_even
from adapt.compare.figures.numbers import break_even_of, opponents
from adapt.compare.figures.points import score_against_memory, score_against_seconds
from adapt.compare.figures.reliability import reliability
from adapt.compare.figures.speedups import speedup_bars
from adapt.compare.figures.style import save
from adapt.compare.figures.target import time_to_score

__all__ = ["draw_all"]


def draw_all(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every figure that there is something to draw in, as SVG and PNG, into ``folder``; returns the
    paths, those of ``<metric>_against_seconds`` first.

    Without ours there is no time to our score, no speed-up and no break-even; this last one also needs
    retraining and the time of meta-training. A single method without memory has no second figure.
    """
    metric = comparison.metric.name
    against_ours = comparison.ours is not None and bool(opponents(comparison))
    drawn = [(score_against_seconds, f"{metric}_against_seconds")]
    if against_ours:
        drawn += [(time_to_score, f"time_to_{metric}"), (speedup_bars, "speedups")]
    if any(method.peak_mb for method in comparison.methods.values()):
        drawn.append((score_against_memory, f"{metric}_against_memory"))
    if any(method.reliability is not None for method in comparison.methods.values()):
        drawn.append((reliability, "reliability"))
    if break_even_of(comparison) is not None:
        drawn.append((break_even, "break_even"))
    return [path for draw, name in drawn for path in save(draw(comparison), folder / name)]
