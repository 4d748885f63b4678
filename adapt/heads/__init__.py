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

#: Every head, by the name that saved adapters have for it. What is saved, what is exported and what the
#: conformance suite proves are read from here: a new head is a file, a row here, and a config.
HEADS: dict[str, type[Head]] = {
    "direct": Direct,
    "kernel_ridge": KernelRidge,
    "label_words": LabelWords,
    "linear": Linear,
    "logistic": Logistic,
    "logistic_cv": LogisticCV,
    "prototype": Prototype,
    "ridge": Ridge,
}

__all__ = ["HEADS", "Head", "label_words", "one_hot"]
__all__ += [head.__name__ for head in HEADS.values()]
