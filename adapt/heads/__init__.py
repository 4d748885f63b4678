"""Convex heads on features, closed form or Newton: ``fit``, ``logits``, ``loo_logits``."""

from adapt.heads.base import Head, one_hot
from adapt.heads.direct import Direct
from adapt.heads.logistic import Logistic
from adapt.heads.prototype import Prototype
from adapt.heads.ridge import Ridge

__all__ = ["Direct", "Head", "Logistic", "Prototype", "Ridge", "one_hot"]
