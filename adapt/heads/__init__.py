"""Heads on features, convex all but one: ``fit``, ``logits``, ``loo_logits``."""

from adapt.heads.base import Head, one_hot
from adapt.heads.direct import Direct
from adapt.heads.kernel_ridge import KernelRidge
from adapt.heads.label_words import LabelWords, label_words
from adapt.heads.linear import Linear
from adapt.heads.logistic import Logistic
from adapt.heads.logistic_cv import LogisticCV
from adapt.heads.prototype import Prototype
from adapt.heads.ridge import Ridge

__all__ = [
    "Direct",
    "Head",
    "KernelRidge",
    "LabelWords",
    "Linear",
    "Logistic",
    "LogisticCV",
    "Prototype",
    "Ridge",
    "label_words",
    "one_hot",
]
