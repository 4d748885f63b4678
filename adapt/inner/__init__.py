"""Inner solvers: from a task's support set to z."""

from adapt.inner.auto import Auto
from adapt.inner.continuation import Continuation
from adapt.inner.descent import Descent
from adapt.inner.gauss_newton import GaussNewton
from adapt.inner.linearised import Linearised
from adapt.inner.losses import CrossEntropy, Loss, SquaredError
from adapt.inner.semi_supervised import SemiSupervised
from adapt.inner.solver import Learned, Model, Solver, Trace, plain

#: Every solver, by the name that saved adapters have for it: a new one is a file, a row here, and a config.
SOLVERS: dict[str, type[Solver]] = {
    "auto": Auto,
    "continuation": Continuation,
    "descent": Descent,
    "gauss_newton": GaussNewton,
    "linearised": Linearised,
}

#: Every loss, likewise.
LOSSES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy, "squared_error": SquaredError}

__all__ = ["LOSSES", "SOLVERS", "Learned", "Loss", "Model", "SemiSupervised", "Solver", "Trace", "plain"]
__all__ += [part.__name__ for part in (*SOLVERS.values(), *LOSSES.values())]
