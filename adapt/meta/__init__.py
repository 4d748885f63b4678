"""Outer loops, offline: pretraining a backbone, and learning φ₀, U and the prior over a distribution of
tasks. They may use backprop; adapting never does."""

from adapt.meta.calibration import CALIBRATION, calibrated
from adapt.meta.outer import meta_train
from adapt.meta.pretrain import Pretraining, image_batches, pretrain
from adapt.meta.query import query_logits
from adapt.meta.settings import MetaTraining
from adapt.meta.start import displacement_basis, initial_basis, task_gradient_basis
from adapt.meta.trained import trained

__all__ = [
    "CALIBRATION",
    "MetaTraining",
    "Pretraining",
    "calibrated",
    "displacement_basis",
    "image_batches",
    "initial_basis",
    "meta_train",
    "pretrain",
    "query_logits",
    "task_gradient_basis",
    "trained",
]
