"""What follows other conditions, with labels and without, and the settings of each that are chosen from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from adapt.adapter import Context, Forward, Matching, Method, Role, initial_state
from adapt.adapter.method import Adapt
from adapt.baselines import T3A, Backprop, CmaEs, Followed, Lame
from adapt.forward.estimators import SPSA
from adapt.inner import Descent, GaussNewton, SemiSupervised, Solver
from bench.lib.choosing import HEAD

__all__ = ["FREE", "GIVEN", "LABELLED", "grids", "smaller"]

STEPS, RATES, MIXES = (1, 3, 10), (0.001, 0.003, 0.01), (0.3, 0.5, 0.7, 1.0)
STAY, NORMS = GaussNewton(steps=0), Matching(1.0, 0.0)
PLAIN = SemiSupervised(0.0, 0.0)
#: What the others are held against, with labels and without; and all that look at labels.
GIVEN = ("head", "head and norms", "backprop, head", "classifier, backprop")
LABELLED = (
    "head",
    "head and norms",
    "forward, head",
    "backprop, head",
    "classifier, forward",
    "classifier, backprop",
)
FREE = ("no labels, as it is", "no labels, norms", "no labels, tent", "no labels, foa")

Grid = Sequence[tuple[str, Method]]


@dataclass(frozen=True)
class Pretrained:
    """``method`` from the network as it was pretrained, without meta-learned directions."""

    method: Method
    match: Matching | None = None
    role: Role = "rival"
    max_tasks: int | None = None
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`."""
        space = context.adapter.space
        state = initial_state(space.initial.clone(), space.initial.new_zeros(space.size, 0))
        return self.method.prepare(
            context._replace(adapter=context.adapter.replace(state=state, match=self.match))
        )


def descents() -> list[tuple[str, Solver]]:
    return [(f"lr={lr} steps={steps}", Descent("adam", lr, steps)) for steps, lr in product(STEPS, RATES)]


def followed(
    solver: Solver | None = None,
    match: Matching | None = NORMS,
    loss: SemiSupervised = PLAIN,
    *,
    labels: bool = False,
    ours: bool = False,
) -> Followed:
    """In all of the space, unchecked; ours along the adapter's directions, checked."""
    return Followed(
        HEAD,
        solver,
        match,
        loss,
        checked=ours,
        labels=labels,
        subspace=ours,
        role="forward" if ours else "rival",
    )


def grids(matched: bool) -> dict[str, Grid]:
    """By the name of the method, the cheaper settings first. ``matched``: the network has norms with
    statistics of their own, which need no source; heads of a task have none to match others."""
    mixes = [(f"mix={mix}", Matching(mix, 0.0)) for mix in MIXES]
    own = [(f"mix={mix}", Matching(mix)) for mix in (0.5, 1.0)]
    source = Followed(HEAD, adapts=False)
    bases = [("", source), ("norms", followed(STAY))]
    found: dict[str, Grid] = {
        "head": [("", Pretrained(Forward(STAY, HEAD)))],
        "head and norms": [
            (said, Pretrained(Forward(STAY, HEAD), match)) for said, match in mixes if matched
        ],
        "forward, head": [(f"k={k}", Forward(GaussNewton(), HEAD, k)) for k in (2, 4, 8)],
        "backprop, head": [(said, Backprop(solver, HEAD)) for said, solver in descents()],
        "classifier, forward": [
            (f"{said} steps={steps}".strip(), followed(GaussNewton(steps), match, labels=True, ours=True))
            for (said, match), steps in product(own, (1, 2))
        ],
        "classifier, backprop": [(said, followed(solver, labels=True)) for said, solver in descents()],
        "no labels, as it is": [("", source)],
        "no labels, norms": [(said, followed(STAY, match)) for said, match in mixes],
        "no labels, tent": [(said, followed(solver)) for said, solver in descents()],
        "no labels, eata": [
            (said, followed(solver, loss=SemiSupervised(0.0, 0.0, 0.4))) for said, solver in descents()
        ],
        "no labels, t3a": [
            (f"{said} M={most}".strip(), T3A(base, most)) for (said, base), most in product(bases, (1, 5))
        ],
        "no labels, lame": [
            (f"{said} k={k}".strip(), Lame(base, k)) for (said, base), k in product(bases, (1, 3, 5))
        ],
        "no labels, foa": [
            (f"σ={sigma} generations={n}", followed(CmaEs(28, n, sigma), None, SemiSupervised(0.0, 1.0)))
            for n, sigma in product((1, 3), (0.03, 0.1))
        ],
        "no labels, spsa": [(f"lr={lr}", followed(Descent("adam", lr, 10, SPSA(4)))) for lr in RATES],
        "no labels, ours": [
            (f"{said} statistics={s}".strip(), followed(None, match, SemiSupervised(1.0, s), ours=True))
            for s, (said, match) in product((0.0, 1.0), own)
        ],
    }
    return {name: grid for name, grid in found.items() if grid}


def smaller(methods: Mapping[str, Method]) -> dict[str, Method]:
    """With classifiers of two examples a class, and a single generation."""
    found = dict(methods)
    for name, method in methods.items():
        if isinstance(method, Followed):
            found[name] = _small(method)
        elif isinstance(method, T3A | Lame):
            found[name] = replace(method, classifier=_small(method.classifier))
    return found


def _small(method: Followed) -> Followed:
    solver = CmaEs(4) if isinstance(method.solver, CmaEs) else method.solver
    return replace(method, solver=solver, examples=2)
