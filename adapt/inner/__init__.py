"""Inner solvers: from a task's support set to z."""

from adapt.inner.auto import Auto
from adapt.inner.descent import Descent
from adapt.inner.gauss_newton import GaussNewton
from adapt.inner.linearised import Linearised
from adapt.inner.losses import CrossEntropy, Loss, SquaredError
from adapt.inner.solver import Learned, Model, Solver, Trace, plain

__all__ = [
    "Auto",
    "CrossEntropy",
    "Descent",
    "GaussNewton",
    "Learned",
    "Linearised",
    "Loss",
    "Model",
    "Solver",
    "SquaredError",
    "Trace",
    "plain",
]
