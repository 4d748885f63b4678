"""The adapter: a frozen backbone, what meta-training learned about moving it, an inner solver and a head."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter.fitted import FittedTask
from adapt.adapter.inputs import Examples, Labels, as_examples, as_targets
from adapt.adapter.loaders import paired
from adapt.adapter.moved import Target, moved
from adapt.adapter.problem import (
    Problem,
    can_adapt,
    features_of,
    helped,
    model_of,
)
from adapt.adapter.state import AdapterState
from adapt.backbones import (
    check_contract,
    check_state,
    check_structure,
    input_dtype,
    pictures_of,
    tokeniser,
)
from adapt.checks import check_setting, least, optional
from adapt.errors import AdaptError
from adapt.forward.preflight import Preflight, modes
from adapt.heads import Head, Logistic, Prototype
from adapt.heads.base import check_outputs, check_regression
from adapt.inner import CrossEntropy, GaussNewton, Loss, Model, Solver, Trace
from adapt.precision import outside_autocast, wide
from adapt.spaces import Space, Subspace

__all__ = ["FewShotAdapter"]

ONE_SHOT = "not adapted: a class has a single example, and nothing is left of it when it is left out"
WORSE = "not adapted: the support loss was greater after adapting than before"


@dataclass(frozen=True, eq=False)
class FewShotAdapter:
    """Adapts ``backbone`` to a new task, classification or regression, from a few labelled examples.

    Attributes:
        backbone: features ``[n, D]`` of examples ``[n, *input_shape]``; never modified.
        space: what may move.
        state: φ₀, U, λ, as meta-trained; float32 at least, whatever the backbone is.
        solver: finds z on the support set; the default needs no backward pass.
        head: convex model on the adapted features.
        support_head: the head inside the support loss that z is solved for, each example left out.
        loss: of that support loss; it says whether tasks are classification or regression.
        rows: examples that go through the network at a time while solving; fewer take less memory (a tangent
            is as large as what it belongs to), and small networks more time. None = all. A setting of the
            machine: it is not saved.
        input_shape: of one example, checked on every input; None accepts any.
        backbone_name: under which ``adapt.load`` finds the backbone again; None if the caller brings it.
        info: provenance and figures for the model card (free form, JSON).

    Example:
        >>> import adapt, torch
        >>> adapter = adapt.load("conv4_glyphs_film")
        >>> task = adapter.fit(torch.rand(4, 1, 32, 32), ["cat", "dog", "cat", "dog"])
        >>> task.classes_.tolist()
        ['cat', 'dog']
    """

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

    def __post_init__(self) -> None:
        check_structure(self.backbone)
        check_state(self.backbone)  # by which a saved adapter knows it
        Preflight(tuple(modes(self.backbone))).raise_if_blocked()
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

    def fit(self, x: Examples, y: Labels | None = None) -> FittedTask:
        """Adapt to the task given by its labelled examples.

        The backbone stays at its meta-learned starting point φ₀ (z = 0), and only the head is fitted, where
        the support loss is undefined (classification with a single example of some class: nothing is left of
        the class when it is left out), and where adapting would end at a greater support loss than it began
        with, or at values that are not finite. ``task.trace.choice`` says so.

        Args:
            x: support examples ``[n, *input_shape]``, numbers; n texts where the backbone reads texts; n
                Pillow images, arrays or tensors; or a torch ``Dataset`` or ``DataLoader`` of them. What
                becomes of them: :func:`~adapt.adapter.inputs.as_examples`.
            y: classification: n labels of any kind (strings, numbers), two classes or more. Regression: n
                numbers, or rows of them ``[n, C]``. None: ``x`` gives pairs (x, y).

        Raises:
            AdaptError: shapes, values or labels that cannot be used.
        """
        x, y = paired(x, y)
        examples = self.examples(x)
        classes, targets = as_targets(y, len(examples), self.state.origin, self.loss)
        with torch.no_grad():  # forward tangents do not need the autograd graph
            features_at = features_of(self.backbone, self.space, self.state, examples, self.rows)
        with torch.no_grad(), outside_autocast(examples.device):  # only the network keeps its autocast
            model = model_of(features_at, self.state, targets, self.problem)
            z, trace = self._solve(model, targets)
            features = model.features(z)
            before = trace.losses[0] if len(trace.losses) else None
            if not helped(model, features, targets, self.loss, before):
                z, trace = torch.zeros_like(z), trace._replace(choice=WORSE)
                features = model.features(z)
            parameters = Subspace(self.space, self.state.origin, self.state.basis).parameters(z)
            state = self.head.fit(features, targets)
            check_outputs(self.head.logits(state, features), targets)
        return FittedTask(self, parameters, state, classes, z, trace, targets.shape[1])

    def examples(self, x: Examples, fewest: int = 1) -> Tensor:
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
        check_contract(self.backbone, found, x)
        return found

    def with_(self, **changes: Any) -> "FewShotAdapter":
        """A copy with other attributes, for instance ``adapter.with_(solver=GaussNewton(steps=2))``."""
        return replace(self, **changes)

    def to(self, target: Target, dtype: torch.dtype | None = None) -> "FewShotAdapter":
        """An adapter that computes on another device, ``to("cuda")``, in another dtype,
        ``to(torch.float64)``, or both; this one and its tasks stay as they are.

        The backbone is copied, unless it is there already: until the original is dropped, both take memory.

        Raises:
            AdaptError: no such device or dtype, or a backbone that cannot be copied.
        """
        backbone, space, state = moved(self, target, dtype)
        return replace(self, backbone=backbone, space=space, state=state)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``adapter_config.json``, ``adapter_model.safetensors`` and the model card ``README.md`` to
        ``folder``."""
        from adapt.adapter.storage import save_adapter

        save_adapter(self, folder)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], backbone: nn.Module | None = None
    ) -> "FewShotAdapter":
        """Read an adapter written by :meth:`save_pretrained`; ``backbone`` is needed if it was the caller's
        own."""
        from adapt.adapter.storage import load_adapter

        return load_adapter(folder, backbone)

    def _solve(self, model: Model, targets: Tensor) -> tuple[Tensor, Trace]:
        if not can_adapt(targets, self.loss):
            none = self.state.origin.new_zeros(0)
            return self.state.origin.new_zeros(self.state.k), Trace(none, 0.0, ONE_SHOT)
        return self.solver(model, targets, self.loss, self.state.learned)


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
