"""The adapter: a frozen backbone, what meta-training learned about moving it, an inner solver and a head."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter.fitted import FittedTask
from adapt.adapter.inputs import as_examples, as_labels
from adapt.adapter.problem import features_of, solve
from adapt.adapter.state import AdapterState
from adapt.forward.preflight import Preflight, modes
from adapt.heads import Head, Logistic, one_hot
from adapt.inner import GaussNewton, Solver, Trace
from adapt.spaces import Space

__all__ = ["FewShotAdapter"]


@dataclass(frozen=True, eq=False)
class FewShotAdapter:
    """Adapts ``backbone`` to a new classification task from a few labelled examples.

    Attributes:
        backbone: features ``[n, D]`` of examples ``[n, *input_shape]``; never modified.
        space: what may move.
        state: φ₀, U, λ, as meta-trained.
        solver: finds z on the support set; the default needs no backward pass.
        head: convex classifier on the adapted features.
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
    input_shape: tuple[int, ...] | None = None
    backbone_name: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Preflight(tuple(modes(self.backbone))).raise_if_blocked()

    def fit(self, x: Tensor | np.ndarray, y: Tensor | np.ndarray | Sequence[Any]) -> FittedTask:
        """Adapt to the task given by its labelled examples.

        With a single example of some class the support loss is undefined (nothing is left of the class when
        it is left out), and the backbone stays at its meta-learned starting point φ₀ (z = 0); only the head
        is fitted.

        Args:
            x: support examples ``[n, *input_shape]``, numbers.
            y: n labels of any kind (strings, numbers), two classes or more.

        Raises:
            AdaptError: shapes, values or labels that cannot be used.
        """
        examples = as_examples(x, self.input_shape, self.state.origin)
        classes, labels = as_labels(y, len(examples))
        targets = one_hot(labels.to(examples.device), len(classes), examples.dtype)
        with torch.no_grad():  # forward tangents do not need the autograd graph
            features = features_of(self.backbone, self.space, self.state, examples)
            z, trace = self._solve(features, targets)
            parameters = self.space.parameters(self.state.origin + self.state.basis @ z)
            state = self.head.fit(features(z), targets)
        return FittedTask(self, parameters, state, classes, z, trace)

    def with_(self, **changes: Any) -> "FewShotAdapter":
        """A copy with other attributes, for instance ``adapter.with_(solver=GaussNewton(steps=2))``."""
        return replace(self, **changes)

    def to(self, device: torch.device | str) -> "FewShotAdapter":
        """A copy that computes on ``device``; the backbone itself moves, as ``nn.Module.to`` does."""
        space = replace(self.space, initial=self.space.initial.to(device))
        state = AdapterState(*(tensor.to(device) for tensor in self.state))
        return replace(self, backbone=self.backbone.to(device), space=space, state=state)

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

    def _solve(self, features: Callable[[Tensor], Tensor], targets: Tensor) -> tuple[Tensor, Trace]:
        if targets.sum(0).min() < 2:
            return self.state.origin.new_zeros(self.state.basis.shape[1]), Trace(
                self.state.origin.new_zeros(0), 0.0
            )
        return solve(features, self.state, self.solver, targets)
