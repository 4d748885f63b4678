"""Inner solvers: from a task's support set to z."""

from adapt.inner.descent import Descent
from adapt.inner.gauss_newton import GaussNewton
from adapt.inner.losses import CrossEntropy, Loss, SquaredError
from adapt.inner.solver import Prior, Solver, Trace

__all__ = ["CrossEntropy", "Descent", "GaussNewton", "Loss", "Prior", "Solver", "SquaredError", "Trace"]
