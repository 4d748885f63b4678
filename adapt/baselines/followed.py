"""A classifier of clean examples under other conditions: as it is, or adapted to the support without its
labels.

    head fitted once to the pool at φ₀ ;   z(x) = solver(loss without labels)      (adapt.adapter.unlabelled)

``adapts=False`` is the classifier as it is. Adam on all of φ along entropy alone, norms at the statistics of
x (``match`` with a mix of 1, ``diversity`` and ``statistics`` 0), is Wang et al. (2021), *Tent: Fully
Test-Time Adaptation by Entropy Minimization*; no step of any solver is Nado et al. (2020), *Evaluating
Prediction-Time Batch Normalization for Robustness under Covariate Shift*.
"""

from dataclasses import dataclass, field

import torch

from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.fitted import FittedTask
from adapt.adapter.matching import Matching
from adapt.adapter.method import Adapt, Context, Pool, Predictor, Role, Support, Watch
from adapt.adapter.state import whole_state
from adapt.adapter.unlabelled import Source
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic
from adapt.inner import GaussNewton, Solver

__all__ = ["Followed"]

#: What the classifier is fitted to stays as it is.
NONE = GaussNewton(steps=0)


@dataclass(frozen=True)
class Followed:
    """The labels of a support set are not looked at; further examples without labels count as it does.

    Attributes:
        head: of the classifier.
        solver: of the loss without labels; None: three Gauss–Newton steps.
        match, diversity, statistics, checked: as for :meth:`adapt.FittedTask.fit`.
        adapts: False: the classifier as it is.
        subspace: move z along the adapter's own directions; False: all of φ.
        examples: of every class in the pool that the classifier is fitted to, at most.
    """

    head: Head = field(default_factory=Logistic)
    solver: Solver | None = None
    match: Matching | None = None
    diversity: float = 1.0
    statistics: float = 1.0
    checked: bool = True
    adapts: bool = True
    subspace: bool = True
    examples: int = 50
    max_tasks: int | None = None
    role: Role = "rival"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        adapter = context.adapter.replace(solver=NONE, head=self.head, match=None)
        if not self.subspace:
            adapter = adapter.replace(state=whole_state(adapter.space, adapter.state))
        return _Following(self, adapter, context.pool)


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
            needed = self.method.adapts and self.method.statistics > 0
            self.known[support.classes] = task, task.source(x) if needed else None

    def __call__(self, support: Support, watch: Watch) -> Predictor:
        self.ready(support)
        task, source = self.known[support.classes]
        if self.method.adapts:
            further = support.unlabelled
            task = task.fit(
                support.x if further is None else torch.cat([support.x, further]),
                source=source,
                match=self.method.match,
                solver=self.method.solver,
                diversity=self.method.diversity,
                statistics=self.method.statistics,
                checked=self.method.checked,
            )
        return task.logits
