"""The contract of a method that can be compared, and our own method in that form, fresh or as it was saved.

A method is a frozen set of hyper-parameters. ``prepare`` gives it what all methods of a comparison share;
what comes back adapts one episode at a time. It never times itself, and sees an episode's support only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.fitted import FittedTask
from adapt.adapter.storage import read_adapter, read_stored
from adapt.backbones import device_of
from adapt.errors import AdaptError
from adapt.heads import HEADS, Head, Logistic, is_transductive
from adapt.inner import GaussNewton, Solver
from adapt.inner.solver import is_stepwise

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
    "adapted_by",
    "predicts_together",
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
        whole: whether these are all training examples that the task has, and no pool holds more.
        unlabelled: further examples, without labels ``[u, …]``; None: there are none.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    reserved: tuple[int, ...] = ()
    whole: bool = False
    unlabelled: Tensor | None = None

    @property
    def ways(self) -> int:
        """Number of classes; 0 for a regression."""
        return len(self.classes)

    @property
    def regression(self) -> bool:
        """Whether ``y`` holds values rather than labels."""
        return not self.classes


class Pool(Protocol):
    """All labelled examples that there are of some classes."""

    def __call__(
        self, classes: tuple[str, ...], reserved: tuple[int, ...] = (), most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(x, y)`` with y in the order of the classes, without the rows ``reserved``; of each class
        at most ``most``, spread over all that there are; None: all."""
        ...


def no_pool(
    classes: tuple[str, ...], reserved: tuple[int, ...] = (), most: int | None = None
) -> tuple[Tensor, Tensor]:
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


Role = Literal["forward", "head", "backprop", "finetune", "retrain", "rival"]
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
            frozen features, ``rival`` a model without any network, and so on.
        keeps_backbone: claims that the pretrained weights are untouched (verified by hash).
    """

    @property
    def max_tasks(self) -> int | None: ...

    @property
    def role(self) -> Role: ...

    @property
    def keeps_backbone(self) -> bool: ...

    def prepare(self, context: Context) -> Adapt:
        """Everything that happens once, untimed; the result maps an episode's support to a predictor. What
        happens once for given classes it may have in a function ``ready(support)``, which a comparison calls
        before it measures."""
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
        adapter = context.adapter.replace(state=state, solver=self.solver, head=self.head, rows=self.rows)
        return adapted_by(adapter)


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

    @property
    def transductive(self) -> bool:
        """Whether the saved head predicts a batch together."""
        return is_transductive(HEADS.get(read_stored(self.adapter).config["head"].get("name")))

    def prepare(self, context: Context) -> Adapt:
        """See :class:`Method`."""
        stored = read_stored(self.adapter)
        backbone = None if stored.names_backbone else context.backbone
        adapter = read_adapter(stored, backbone, FewShotAdapter)
        if self.solver is not None:
            adapter = adapter.replace(solver=self.solver)
        adapter = adapter.to(device_of(context.backbone))
        return adapted_by(adapter)


def predicts_together(method: Method) -> bool:
    """Whether what ``method`` predicts for a query depends on the others of its task (transductive)."""
    return is_transductive(method) or is_transductive(getattr(method, "head", None))


def adapted_by(adapter: FewShotAdapter) -> Adapt:
    """``adapter.fit`` as a method: the same in every bit, shown after each step of a solver that goes step by
    step. Other solvers have nothing in between to be shown."""

    def adapt(support: Support, watch: Watch) -> Predictor:
        shown = 0

        def show(stopped_here: Callable[[], FittedTask]) -> None:
            nonlocal shown
            shown += 1
            watch(Unfinished(lambda: stopped_here().logits))

        task = adapter.fit(support.x, support.y, on_step=show)
        if is_stepwise(adapter.solver) and not shown:  # a single example of some class, say
            watch(task.logits)
        return task.logits

    return adapt
