"""The contract of a method that can be compared, and our own method in that form.

A method is a frozen set of hyper-parameters. ``prepare`` gives it what all methods of a comparison share;
what comes back adapts one episode at a time. It never times itself, and sees an episode's support only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from adapt.adapter.few_shot import FewShotAdapter
from adapt.heads import Head, Logistic
from adapt.inner import GaussNewton, Solver

__all__ = ["Context", "Forward", "Method", "Predictor", "Role", "Support"]

#: Maps examples ``[m, …]`` to logits ``[m, C]``.
Predictor = Callable[[Tensor], Tensor]


class Support(NamedTuple):
    """What a method may see of an episode: labelled examples, class-major, and the names of the classes in
    label order."""

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]

    @property
    def ways(self) -> int:
        """Number of classes C."""
        return len(self.classes)


class Context(NamedTuple):
    """What all methods of a comparison share.

    Attributes:
        backbone: pretrained and frozen.
        adapter: meta-trained for that backbone.
        pool: all training examples of the given classes, ``(x, y)`` with y in the order of the classes; for
            retraining.
        seed: of everything random in a method.
    """

    backbone: nn.Module
    adapter: FewShotAdapter
    pool: Callable[[tuple[str, ...]], tuple[Tensor, Tensor]]
    seed: int


Role = Literal["forward", "head", "backprop", "finetune", "retrain"]
#: Called by an iterative method with its present predictor, so that a comparison can draw accuracy against
#: seconds.
Watch = Callable[[Predictor], None]
Adapt = Callable[[Support, Watch], Predictor]


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

    ``k`` takes the leading k directions of the adapter's basis (null = all).
    """

    solver: Solver = field(default_factory=GaussNewton)
    head: Head = field(default_factory=Logistic)
    k: int | None = None
    max_tasks: int | None = None
    role: Role = "forward"
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`Method`."""
        state = context.adapter.state if self.k is None else context.adapter.state.leading(self.k)
        adapter = context.adapter.with_(state=state, solver=self.solver, head=self.head)
        return lambda support, watch: adapter.fit(support.x, support.y).logits
