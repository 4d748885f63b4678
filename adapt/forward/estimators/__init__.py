"""Gradient estimators: ``(f, x, generator) -> (value, gradient, info)``, one file each."""

from adapt.forward.estimators.activity import ActivityPerturbation
from adapt.forward.estimators.base import Estimator, GradientInfo
from adapt.forward.estimators.exact import Exact
from adapt.forward.estimators.gaussian import Gaussian
from adapt.forward.estimators.guess import Guess, LocalGradients
from adapt.forward.estimators.layered import Block, Layered
from adapt.forward.estimators.orthogonal import Orthogonal
from adapt.forward.estimators.rademacher import Rademacher
from adapt.forward.estimators.reverse import Reverse
from adapt.forward.estimators.spsa import SPSA

__all__ = [
    "SPSA",
    "ActivityPerturbation",
    "Block",
    "Estimator",
    "Exact",
    "Gaussian",
    "GradientInfo",
    "Guess",
    "Layered",
    "LocalGradients",
    "Orthogonal",
    "Rademacher",
    "Reverse",
]
