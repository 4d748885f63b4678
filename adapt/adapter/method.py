"""The contract of a method that can be compared, and our own method in that form, fresh or as it was saved.

A method is a frozen set of hyper-parameters. ``prepare`` gives it what all methods of a comparison share;
what comes back adapts one episode at a time. It never times itself, and sees an episode's support only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.inputs import as_targets
from adapt.adapter.storage import CONFIG, load_adapter
from adapt.backbones import call, device_of
from adapt.errors import AdaptError
from adapt.files import read_json, shipped
from adapt.forward.estimators import Estimator
from adapt.forward.estimators.base import GradientInfo
from adapt.heads import Head, Logistic
from adapt.inner import Descent, GaussNewton, Solver
from adapt.spaces import Subspace

__all__ = [
    "Context",
    "Forward",
    "Method",
    "Predictor",
    "Role",
    "Saved",
    "Support",
    "Unfinished",
    "Watch",
    "fit_watched",
]

#: Maps examples ``[m, …]`` to outputs ``[m, C]``: logits of the C classes, or predicted values.
Predictor = Callable[[Tensor], Tensor]


class Support(NamedTuple):
    """What a method may see of an episode.

    Attributes:
        x: examples ``[n, …]``, of a classification class by class.
        y: int64 labels ``[n]``, or of a regression float values ``[n, C]``.
        classes: their names in label order; empty for a regression.
        reserved: rows of the source that the queries are: a pool of the same split leaves them out.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    reserved: tuple[int, ...] = ()

    @property
    def ways(self) -> int:
        """Number of classes; 0 for a regression."""
        return len(self.classes)


class Pool(Protocol):
    """All labelled examples that there are of some classes."""

    def __call__(self, classes: tuple[str, ...], reserved: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """``(x, y)`` with y in the order of the classes, without the rows ``reserved``."""
        ...


def no_pool(classes: tuple[str, ...], reserved: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """The pool of a comparison that has none.

    Raises:
        AdaptError: always.
    """
    raise AdaptError(
        "retraining needs a pool of examples, which this comparison does not have: leave method retrain out"
    )


class Context(NamedTuple):
    """What all methods of a comparison share.

    Attributes:
        backbone: pretrained and frozen.
        adapter: meta-trained for that backbone.
        pool: all training examples of the given classes, for retraining. Raises AdaptError where there is
            none, as for regression.
        seed: of everything random in a method.
    """

    backbone: nn.Module
    adapter: FewShotAdapter
    pool: Pool = no_pool
    seed: int = 0


Role = Literal["forward", "head", "backprop", "finetune", "retrain"]
#: Called by an iterative method with its present predictor, so that a comparison can draw its score
#: against seconds. The predictor is used before the call returns, while the clock stands still: it may share
#: whatever the method goes on to change, and shall do nothing before it is used. A method that shows itself
#: does so on every task.
Watch = Callable[[Predictor], None]
Adapt = Callable[[Support, Watch], Predictor]


@dataclass(frozen=True)
class Unfinished:
    """A predictor that still lacks what a method does once at its end (fitting a head, say): ``finish`` does
    it, so that it can be timed apart from the steps before."""

    finish: Callable[[], Predictor]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``[m, C]`` for ``x [m, …]``; finishes in every call."""
        return self.finish()(x)


class Method(Protocol):
    """Flags say what a method does, so that nobody asks for its name.

    Attributes:
        max_tasks: a costly method runs on the first so many tasks of a comparison; None = all.
        role: what the comparison holds it against: ``forward`` is ours, ``head`` adapts nothing but a head on
            frozen features, and so on.
        keeps_backbone: claims that the pretrained weights are untouched (verified by hash).
    """

    @property
    def max_tasks(self) -> int | None: ...

    @property
    def role(self) -> Role: ...

    @property
    def keeps_backbone(self) -> bool: ...

    def prepare(self, context: Context) -> Adapt:
        """Everything that happens once, untimed; the result maps an episode's support to a predictor."""
        ...


@dataclass(frozen=True)
class Forward:
    """Ours: z by ``solver`` from exact forward tangents in the meta-learned subspace, then a convex ``head``
    at φ₀ + U z.

    ``k`` takes the leading k directions of the adapter's basis (null = all); ``rows`` examples go through the
    network at a time (null = all), see :class:`FewShotAdapter`.
    """

    solver: Solver = field(default_factory=GaussNewton)
    head: Head = field(default_factory=Logistic)
    k: int | None = None
    rows: int | None = None
    max_tasks: int | None = None
    role: Role = "forward"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`Method`."""
        state = context.adapter.state if self.k is None else context.adapter.state.leading(self.k)
        adapter = context.adapter.with_(state=state, solver=self.solver, head=self.head, rows=self.rows)
        return lambda support, watch: fit_watched(adapter, support, watch)


@dataclass(frozen=True)
class Saved:
    """A saved adapter as it is: its own starting point, directions, solver and head.

    So several meta-trained starts can be compared side by side. One that names its backbone runs on that one,
    which may be another than the comparison's; one that names none, on the comparison's.

    Attributes:
        adapter: a folder or the name of a shipped adapter, as for :func:`adapt.load`.
        solver: another than the saved one.
    """

    adapter: str
    role: Role = "forward"
    solver: Solver | None = None
    max_tasks: int | None = None
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`Method`."""
        named = read_json(shipped(self.adapter) / CONFIG).get("backbone", {}).get("name") is not None
        adapter = load_adapter(self.adapter, None if named else context.backbone)
        if self.solver is not None:
            adapter = adapter.with_(solver=self.solver)
        adapter = adapter.to(device_of(context.backbone))
        return lambda support, watch: fit_watched(adapter, support, watch)


def fit_watched(adapter: FewShotAdapter, support: Support, watch: Watch) -> Predictor:
    """``adapter.fit`` on the support, the same in every bit, shown after each step of a solver that descends.

    Other solvers take one pass of the network, or one a step, with nothing in between to be shown.
    """
    if not isinstance(adapter.solver, Descent):
        return adapter.fit(support.x, support.y).logits
    shown = _Shown(adapter.solver.gradient, lambda z: watch(Unfinished(lambda: _at(adapter, support, z))))
    task = adapter.with_(solver=replace(adapter.solver, gradient=shown)).fit(support.x, support.y)
    if shown.calls < 2:  # no step, or one: with a single example of a class, say
        watch(task.logits)
    return task.logits


class _Shown:
    """A gradient estimator that first shows where it is asked for a gradient, z ``[k]`` after a step."""

    def __init__(self, estimator: Estimator, show: Callable[[Tensor], None]) -> None:
        self.exact, self.calls = estimator.exact, 0
        self._estimator, self._show = estimator, show

    def __call__(
        self, f: Callable[[Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, GradientInfo]:
        """As the estimator itself."""
        self.calls += 1
        if self.calls > 1:  # the first gradient is taken at the start
            self._show(x)
        return self._estimator(f, x, generator=generator)


def _at(adapter: FewShotAdapter, support: Support, z: Tensor) -> Predictor:
    """What ``adapter.fit`` would return if its solver had stopped at ``z``."""
    x = adapter.examples(support.x)
    targets = as_targets(support.y, len(x), adapter.state.origin, adapter.loss)[1]
    with torch.no_grad():
        parameters = Subspace(adapter.space, adapter.state.origin, adapter.state.basis).parameters(z)
        state = adapter.head.fit(call(adapter.backbone, parameters, x), targets)

    def predictor(query: Tensor) -> Tensor:
        with torch.no_grad():
            return adapter.head.logits(state, call(adapter.backbone, parameters, adapter.examples(query)))

    return predictor
