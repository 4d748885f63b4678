"""Methods side by side on the same tasks: one run, interleaved, paired."""

from adapt.compare.comparison import Comparison, Curve, MethodResult
from adapt.compare.metric import ACCURACY, MSE, Metric
from adapt.compare.runner import compare
from adapt.compare.statistics import Interval, Speedup

__all__ = [
    "ACCURACY",
    "MSE",
    "Comparison",
    "Curve",
    "Interval",
    "MethodResult",
    "Metric",
    "Speedup",
    "compare",
]
