"""Heads on features, convex all but one: ``fit``, ``logits``, ``loo_logits``."""

from adapt.heads.base import Head, one_hot
from adapt.heads.direct import Direct
from adapt.heads.kernel_ridge import KernelRidge
from adapt.heads.label_words import LabelWords, label_words
from adapt.heads.laplacian_shot import LaplacianShot
from adapt.heads.linear import Linear
from adapt.heads.logistic import Logistic
from adapt.heads.logistic_cv import LogisticCV
from adapt.heads.mahalanobis import Mahalanobis
from adapt.heads.matching import Matching
from adapt.heads.optimal_transport import OptimalTransport
from adapt.heads.prototype import Prototype
from adapt.heads.ridge import Ridge
from adapt.heads.simple_shot import SimpleShot
from adapt.heads.tim import TIM
from adapt.heads.together import is_transductive

#: Every head, by the name that saved adapters have for it. What is saved, what is exported and what the
#: conformance suite proves are read from here: a new head is a file, a row here, and a config.
HEADS: dict[str, type[Head]] = {
    "direct": Direct,
    "kernel_ridge": KernelRidge,
    "label_words": LabelWords,
    "laplacian_shot": LaplacianShot,
    "linear": Linear,
    "logistic": Logistic,
    "logistic_cv": LogisticCV,
    "mahalanobis": Mahalanobis,
    "matching": Matching,
    "optimal_transport": OptimalTransport,
    "prototype": Prototype,
    "ridge": Ridge,
    "simple_shot": SimpleShot,
    "tim": TIM,
}

__all__ = ["HEADS", "Head", "is_transductive", "label_words", "one_hot"]
__all__ += [head.__name__ for head in HEADS.values()]
