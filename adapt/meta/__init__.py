"""Outer loops, offline: pretraining a backbone, and learning φ₀, U, λ over a distribution of tasks. They may
use backprop; adapting never does."""

from adapt.meta.basis import task_gradient_basis
from adapt.meta.outer import MetaTraining, meta_train
from adapt.meta.pretrain import Pretraining, image_batches, pretrain

__all__ = ["MetaTraining", "Pretraining", "image_batches", "meta_train", "pretrain", "task_gradient_basis"]
