"""A classifier of clean examples under other conditions: as it is, or adapted to the support with or without
its labels.

    head fitted once to the pool at φ₀ ;   z(x, y) = solver(semi-supervised loss)
    (adapt.adapter.conditions)

``adapts=False`` is the classifier as it is. Adam on all of φ along entropy alone, norms at the statistics of
x (``match`` with a mix of 1, a loss without diversity and statistics), is Wang et al. (2021), *Tent: Fully
Test-Time Adaptation by Entropy Minimization*; no step of any solver is Nado et al. (2020), *Evaluating
Prediction-Time Batch Normalization for Robustness under Covariate Shift*.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.fitted import FittedTask
from adapt.adapter.matching import Matching
from adapt.adapter.method import Adapt, Context, Pool, Predictor, Role, Support, Watch
from adapt.adapter.source import Source
from adapt.adapter.state import whole_state
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic
from adapt.inner import GaussNewton, SemiSupervised, Solver

__all__ = ["Followed"]

#: What the classifier is fitted to stays as it is.
NONE = GaussNewton(steps=0)


@dataclass(frozen=True)
class Followed:
    """The head stays as it is; further examples without labels count, too.

    Attributes:
        head: of the classifier.
        solver: of the loss without labels; None: three Gauss–Newton steps.
        match, loss, checked: as for :meth:`adapt.FittedTask.fit`.
        labels: look at those of the support set; otherwise it counts as further examples do.
        adapts: False: the classifier as it is.
        subspace: move z along the adapter's own directions; False: all of φ.
        examples: of every class in the pool that the classifier is fitted to, at most.
    """

    head: Head = field(default_factory=Logistic)
    solver: Solver | None = None
    match: Matching | None = None
    loss: SemiSupervised = field(default_factory=SemiSupervised)
    checked: bool = True
    labels: bool = False
    adapts: bool = True
    subspace: bool = True
    examples: int = 50
    max_tasks: int | None = None
    role: Role = "rival"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        return _Following(self, self._adapter(context), context.pool)

    def adjusted(self, context: Context, then: Callable[[FittedTask, Tensor], Predictor]) -> Adapt:
        """As :meth:`prepare`, for a method whose predictions are made of the adapted classifier and the
        examples ``[n, …]``."""
        return _Adjusting(self, self._adapter(context), context.pool, then=then)

    def _adapter(self, context: Context) -> FewShotAdapter:
        adapter = context.adapter.replace(solver=NONE, head=self.head, match=None)
        if not self.subspace:
            adapter = adapter.replace(state=whole_state(adapter.space, adapter.state))
        return adapter


@dataclass
class _Following:
    """Adapts; classifiers are fitted when their classes are first seen, for which ``ready`` is there."""

    method: Followed
    adapter: FewShotAdapter
    pool: Pool
    known: dict[tuple[str, ...], tuple[FittedTask, Source | None]] = field(default_factory=dict)

    def ready(self, support: Support) -> None:
        """Fit the classifier of these classes, unless it is known."""
        if support.regression:
            raise AdaptError("values have no classes to be sure of: leave this method out of regression")
        if support.classes not in self.known:
            x, y = self.pool(support.classes, most=self.method.examples)
            task = self.adapter.fit(x, y)
            needed = self.method.adapts and (self.method.loss.statistics > 0 or self.method.match is not None)
            self.known[support.classes] = task, task.source(x) if needed else None

    def __call__(self, support: Support, watch: Watch) -> Predictor:
        return self.fitted(support).logits

    def fitted(self, support: Support) -> FittedTask:
        """The classifier under the conditions of this support set."""
        self.ready(support)
        task, source = self.known[support.classes]
        if not self.method.adapts:
            return task
        known = self.method.labels and len(support.y) > 0
        return task.fit(
            support.x if known else _inputs(support),
            support.y if known else None,
            unlabelled=support.unlabelled if known else None,
            source=source,
            match=self.method.match,
            solver=self.method.solver,
            loss=self.method.loss,
            checked=self.method.checked,
        )


@dataclass
class _Adjusting(_Following):
    """What is predicted afterwards depends on the support set once more."""

    then: Callable[[FittedTask, Tensor], Predictor] = field(kw_only=True)

    def __call__(self, support: Support, watch: Watch) -> Predictor:
        with torch.no_grad():
            return self.then(self.fitted(support), _inputs(support))


def _inputs(support: Support) -> Tensor:
    """All examples, whose labels are not looked at ``[n, …]``."""
    return support.x if support.unlabelled is None else torch.cat([support.x, support.unlabelled])
