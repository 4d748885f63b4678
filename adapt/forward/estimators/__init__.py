"""Gradient estimators: ``(f, x, generator) -> (value, gradient, info)``, one file each."""

from adapt.forward.estimators.base import Estimator, GradientInfo
from adapt.forward.estimators.exact import Exact
from adapt.forward.estimators.gaussian import Gaussian
from adapt.forward.estimators.reverse import Reverse

__all__ = ["Estimator", "Exact", "Gaussian", "GradientInfo", "Reverse"]
