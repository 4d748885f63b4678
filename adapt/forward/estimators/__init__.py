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

#: Estimators that are settings and nothing else, by the name that saved solvers have for them. (An
#: ``ActivityPerturbation`` and a ``Guess`` belong to functions of a special form.) A new one is a file and a
#: row here.
ESTIMATORS: dict[str, type[Estimator]] = {
    "exact": Exact,
    "gaussian": Gaussian,
    "orthogonal": Orthogonal,
    "rademacher": Rademacher,
    "reverse": Reverse,
    "spsa": SPSA,
}

__all__ = ["ESTIMATORS", "ActivityPerturbation", "Block", "Estimator", "GradientInfo", "Guess", "Layered"]
__all__ += ["LocalGradients", *(estimator.__name__ for estimator in ESTIMATORS.values())]
