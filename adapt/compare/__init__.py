"""Methods side by side on the same tasks: one run, interleaved, paired."""

from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.energy import Electricity
from adapt.compare.metric import ACCURACY, MSE, Metric
from adapt.compare.pooled import pool
from adapt.compare.runner import compare
from adapt.compare.statistics import Interval, Speedup

__all__ = [
    "ACCURACY",
    "MSE",
    "Comparison",
    "Curve",
    "Electricity",
    "Interval",
    "MethodResult",
    "Metric",
    "Speedup",
    "compare",
    "pool",
]
