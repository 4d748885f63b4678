"""What an outer loop can be told."""

from dataclasses import dataclass

from adapt.adapter.state import AdapterState
from adapt.checks import (
    MOST,
    STEPS,
    TASKS,
    TRAINING,
    WIDTH,
    Number,
    between,
    check_settings,
    least,
    list_of,
    optional,
    positive,
)
from adapt.errors import AdaptError

__all__ = ["BASES", "GRADIENTS", "MetaTraining"]

GRADIENTS = ("exact", "first_order", "reptile")
BASES = ("gradients", "displacements", "auto_decoder", "starts", "random", "identity")
#: What must be at least 1, and its ceiling.
COUNTS = {
    "k": WIDTH,
    "basis_tasks": TASKS,
    "basis_steps": STEPS,
    "tasks_per_step": WIDTH,
    "validate_every": MOST,
    "validation_tasks": TASKS,
    "memory_mb": MOST,
}


@dataclass(frozen=True)
class MetaTraining:
    """Hyper-parameters of the outer loop.

    Args:
        k: directions of the basis.
        basis: where the first basis comes from: ``gradients`` (singular vectors of task gradients),
            ``displacements`` (of what tasks move when all of φ descends), ``auto_decoder`` (φ₀, U and a z of
            every task, solved for together), ``starts`` (of what other adapters start from), ``random``, or
            ``identity`` (every parameter moves by itself, k = P: MAML).
        basis_tasks: tasks that make the first basis.
        basis_steps, basis_lr: of the Adam descent that makes ``displacements``; of Gauss–Newton for
            ``auto_decoder``, which has no learning rate.
        horizon: share of the outputs, in the order of time, that ``auto_decoder`` begins with.
        radius: length of the first basis, see :mod:`adapt.meta.start`.
        moves: pattern of the names of the parameters that a task may move; φ₀ is learned for all.
        gradient: ``exact`` (through the solver), ``first_order`` (z* taken for a constant) or ``reptile``.
        learn: fields of the adapter's state that are trained; the gradient of ``first_order`` reaches φ₀ and
            U only.
        nested: sizes of which every step draws one, to train the first so many directions only.
        steps: outer steps, of ``tasks_per_step`` tasks each; 0 keeps the first basis as it is.
        distinct_tasks: how many training tasks there are; they are kept in memory, and come round again
            (0 = new ones in every step).
        lr: of Adam on φ₀ and U (their natural unit is 1, a norm's scale); scalars and logarithms move ten
            times as fast. For ``reptile`` the step size ε itself.
        clip: greatest norm of an outer gradient; longer ones are scaled down to it.
        ema: decay of the moving average of the state that is validated and returned (0 = the state itself).
        validate_every: outer steps between validations on ``validation_tasks`` tasks, and between
            checkpoints.
        patience: stop after so many validations in a row without improvement (0 = never).
        chunk: tasks computed at once; None = as many as fit ``memory_mb`` megabytes. 1 is a plain loop, in
            which layers before the first one that moves are computed once per task.
        classifier: examples of every class, under no condition, that a head is fitted to before the training;
            it stays in every task (0: every task fits one). All tasks have the same classes.
        subspaces: of ``k`` directions each, among which a task picks by its support set
            (:mod:`adapt.adapter.mixture`).
        balance: β, how much it counts that all of them are used (:mod:`adapt.meta.gradient`).
        starts: names or folders of adapters of the same network and space, for ``basis="starts"``.
    """

    k: int = 8
    basis: str = "gradients"
    basis_tasks: int = 100
    basis_steps: int = 10
    basis_lr: float = 0.01
    horizon: float = 1.0
    radius: float = 1.0
    moves: str = "*"
    gradient: str = "exact"
    learn: tuple[str, ...] = ("origin", "basis", "log_precision", "log_sharpness")
    nested: tuple[int, ...] = ()
    steps: int = 200
    tasks_per_step: int = 4
    distinct_tasks: int = 0
    lr: float = 3e-3
    clip: float = 1.0
    ema: float = 0.0
    validate_every: int = 25
    validation_tasks: int = 100
    patience: int = 0
    chunk: int | None = None
    memory_mb: int = 1000
    classifier: int = 0
    starts: tuple[str, ...] = ()
    subspaces: int = 1
    balance: float = 0.01

    def __post_init__(self) -> None:
        for name in ("learn", "starts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # configs bring lists
        counts = {name: least(1, ceiling=ceiling) for name, ceiling in COUNTS.items()}
        rates = dict.fromkeys(("lr", "clip", "radius", "basis_lr"), positive("must be positive"))
        check_settings(
            self,
            "meta",
            **counts,
            **rates,
            steps=least(0, ceiling=TRAINING),
            horizon=Number(above=0, most=1, why="a share of the outputs"),
            nested=list_of(Number(whole=True, ceiling=WIDTH)),  # becomes a tuple, as well
            subspaces=least(1, "at least one subspace", ceiling=WIDTH),
            balance=between(0, None, "a weight, or 0 for none"),
            classifier=least(0, "a number of examples, or 0 for a head of every task"),
            distinct_tasks=least(0, ceiling=TASKS),
            chunk=optional(least(1, "at least 1, or null to fit meta.memory_mb")),
            ema=Number(least=0, below=1, why="the decay lies between 0 (no average) and 1"),
            patience=least(0, "a number of validations, or 0 for never"),
        )
        if self.distinct_tasks and self.distinct_tasks < self.tasks_per_step:
            raise AdaptError(
                f"meta.distinct_tasks={self.distinct_tasks}: at least meta.tasks_per_step="
                f"{self.tasks_per_step}, or 0 for new tasks in every step"
            )
        self._check_choices()

    def _check_choices(self) -> None:
        if self.gradient not in GRADIENTS:
            raise AdaptError(f"meta.gradient={self.gradient}: choose {', '.join(GRADIENTS)}")
        if self.basis not in BASES:
            raise AdaptError(f"meta.basis={self.basis}: choose {', '.join(BASES)}")
        if not all(isinstance(name, str) for name in self.starts) or any(len(it) < 2 for it in self.starts):
            raise AdaptError(f"meta.starts={self.starts}: a list of folders of adapters, as in [a/one,b/two]")
        if bool(self.starts) != (self.basis == "starts"):
            raise AdaptError("meta.starts names the adapters that meta.basis=starts mixes: give both")
        if self.subspaces > 1:
            self._check_mixture()
        known = [name for name in AdapterState._fields if name != "router" or self.subspaces > 1]
        if not self.learn or set(self.learn) - set(known):
            raise AdaptError(f"meta.learn={list(self.learn)}: name at least one of {', '.join(known)}")
        if self.gradient == "reptile" and self.learn != ("origin",):
            raise AdaptError("meta.gradient=reptile moves φ₀ and nothing else: use meta.learn=[origin]")
        if self.nested and (self.basis == "identity" or not all(1 <= size <= self.k for size in self.nested)):
            raise AdaptError(
                f"meta.nested={list(self.nested)}: numbers of leading directions between 1 and "
                f"meta.k={self.k}; basis=identity has no order of directions"
            )

    def _check_mixture(self) -> None:
        """What picks among subspaces is learned with them."""
        if self.basis in ("identity", "starts") or self.gradient == "reptile" or self.nested:
            raise AdaptError(
                f"meta.subspaces={self.subspaces}: not with meta.basis=identity or starts, "
                "meta.gradient=reptile or meta.nested, which are of a single subspace"
            )
        object.__setattr__(self, "learn", (*dict.fromkeys([*self.learn, "router"]),))
