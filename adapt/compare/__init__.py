"""Methods side by side on the same tasks: one run, interleaved, paired."""

from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.runner import compare
from adapt.compare.statistics import Interval, Speedup

__all__ = ["Comparison", "Curve", "Interval", "MethodResult", "Speedup", "compare"]
