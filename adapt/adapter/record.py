"""What an adapter and a fitted task are made of: plain records, which fitting, predicting, moving and saving
are functions of."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from adapt.adapter.batches import FEWEST, Part, default_rows, parts
from adapt.adapter.calibration import Calibration
from adapt.adapter.inputs import Examples, as_examples
from adapt.adapter.loaders import is_loader, parts_of
from adapt.adapter.matching import Matching
from adapt.adapter.parts import check_names, check_parts
from adapt.adapter.problem import Memory, Problem
from adapt.adapter.state import AdapterState
from adapt.backbones import (
    check_contract,
    check_state,
    check_structure,
    input_dtype,
    pictures_of,
    tokeniser,
)
from adapt.checks import check_setting, check_shape, least, optional
from adapt.errors import AdaptError
from adapt.forward.preflight import Preflight, modes
from adapt.heads import Head, Logistic, Prototype
from adapt.heads.base import check_regression
from adapt.inner import CrossEntropy, GaussNewton, Loss, Solver, Trace
from adapt.inner.change import Watch
from adapt.inner.posterior import Posterior
from adapt.precision import wide
from adapt.spaces import Space, Subspace

__all__ = ["AdapterRecord", "TaskRecord"]


@dataclass(frozen=True, eq=False, repr=False)
class AdapterRecord:
    """What a :class:`~adapt.adapter.FewShotAdapter` is made of; its attributes are explained there."""

    backbone: nn.Module
    space: Space
    state: AdapterState
    solver: Solver = field(default_factory=GaussNewton)
    head: Head = field(default_factory=Logistic)
    support_head: Head = field(default_factory=Prototype)
    loss: Loss = field(default_factory=CrossEntropy)
    input_shape: tuple[int, ...] | None = None
    backbone_name: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None
    calibration: Calibration | None = None
    match: Matching | None = None

    def __repr__(self) -> str:
        """A line: what an interactive session shows of it."""
        name = self.backbone_name or type(self.backbone).__name__
        return f"{type(self).__name__}({name}, space={self.space.name}, head={self.head!r})"

    def __post_init__(self) -> None:
        check_structure(self.backbone)
        check_parts({part.name: getattr(self, part.name) for part in fields(self)})
        check_state(self.backbone)  # by which a saved adapter knows it
        Preflight(tuple(modes(self.backbone))).raise_if_blocked()
        object.__setattr__(self, "input_shape", check_shape(self.input_shape))
        rows = least(1, "at least one example at a time, or None for all")
        object.__setattr__(self, "rows", check_setting("rows", self.rows, optional(rows)))
        if self.loss.regression:
            for role, head in (("head", self.head), ("support_head", self.support_head)):
                check_regression(head, role)
        _check_state(self.state, self.space)
        object.__setattr__(self, "state", AdapterState(*map(wide, self.state)))

    @property
    def problem(self) -> Problem:
        """How tasks are judged."""
        return Problem(self.loss, self.support_head, self.head)

    @property
    def subspace(self) -> Subspace:
        """Where z lives."""
        return Subspace(self.space, self.state.origin, self.state.basis)

    def replace(self, **changes: Any) -> Self:
        """A copy with other attributes, for instance ``adapter.replace(solver=GaussNewton(steps=2))``.

        Raises:
            AdaptError: an attribute that there is not, or a value that it cannot have.
        """
        check_names(changes, [part.name for part in fields(self)])
        return replace(self, **changes)

    def with_(self, **changes: Any) -> Self:
        """The earlier name of :meth:`replace`."""
        warnings.warn("adapter.with_(…) is called adapter.replace(…) now", DeprecationWarning, stacklevel=2)
        return self.replace(**changes)

    def examples(self, x: Examples | Part, fewest: int = 1) -> Tensor:
        """``x`` as the backbone takes it: texts tokenised, numbers in the dtype of its first layer, on its
        device; ``[0]`` for none, if ``fewest`` is 0.

        Raises:
            AdaptError: shapes or values that cannot be used, or a backbone that is no function of single
                examples (:func:`adapt.backbones.check_contract`).
        """
        found = as_examples(
            x,
            self.input_shape,
            self.state.origin,
            tokeniser(self.backbone),
            pictures_of(self.backbone, self.input_shape),
            fewest,
            partial(input_dtype, self.backbone),
        )
        check_contract(self.backbone, found, x.x if isinstance(x, Part) else x)
        return found

    def batches(self, x: Examples, rows: int | None = None) -> Iterator[Tensor]:
        """``x`` as :meth:`examples` makes it, at most ``rows`` at a time (None: as many as are good for
        speed, by the size of an example); nothing for none.

        Raises:
            AdaptError: as :meth:`examples`, or no such number.
        """
        few = least(1, "at least one example at a time, or None for as many as are good")
        rows = check_setting("batch_size", rows, optional(few))
        if is_loader(x):
            x = parts_of(x, ordered=True)[0]
        for part in parts(x, rows, self.input_shape is not None and self.input_shape[0] in (1, 3)):
            found = self.examples(part, fewest=0)
            if not len(found):
                return
            reads = tokeniser(self.backbone) is not None
            yield from found.split(rows or (FEWEST if reads else default_rows(found[0].numel())))


@dataclass(frozen=True, eq=False, repr=False)
class TaskRecord:
    """What a :class:`~adapt.adapter.FittedTask` is made of; its attributes are explained there."""

    adapter: AdapterRecord
    parameters: dict[str, Tensor]
    head_state: Tensor
    classes_: np.ndarray
    z: Tensor
    trace: Trace
    outputs: int
    posterior: Posterior | None = None
    memory: Memory | None = None
    watch: Watch | None = None

    def __post_init__(self) -> None:
        # As a file holds it: sums over columns in another order are other bits.
        object.__setattr__(self, "head_state", self.head_state.contiguous())

    def __repr__(self) -> str:
        """A line: what an interactive session shows of it."""
        classes = self.classes_.tolist()
        shown = f"{self.outputs} values" if not classes else f"{len(classes)} classes: {few(classes)}"
        return f"{type(self).__name__}({shown}; {self.adapter!r})"


def few(classes: Sequence[Any], most: int = 3) -> str:
    """Some names of classes."""
    return ", ".join(map(repr, classes[:most])) + (", …" if len(classes) > most else "")


def _check_state(state: AdapterState, space: Space) -> None:
    sizes = {"origin": tuple(state.origin.shape), "basis": tuple(state.basis.shape[:1])}
    if any(size != (space.size,) for size in sizes.values()):
        raise AdaptError(
            f"space '{space.name}' has {space.size} numbers, but the state's origin is of shape "
            f"{sizes['origin']} and its basis of {tuple(state.basis.shape)}: make one with "
            "initial_state(space.initial, basis), basis [P, k]"
        )
    lengths = {name: tuple(getattr(state, name).shape) for name in ("log_precision", "log_rates")}
    if any(shape != (state.k,) for shape in lengths.values()):
        raise AdaptError(
            f"the basis has {state.k} directions, but {lengths}: shorten a state with AdapterState.leading, "
            "or make one with initial_state"
        )
    many, of_each = len(state.router), state.k - len(state.router)
    if state.is_mixture and (state.basis.ndim == 1 or of_each < many or of_each % many):
        raise AdaptError(
            f"router is of shape {tuple(state.router.shape)}, but {many} starts and as many times k "
            f"directions are no {state.k}: make such a state with adapter.mixture.mixture_of"
        )
