"""Adapting a network that only infers.

    J_j ≈ (f(h_j e_j) − f(−h_j e_j)) / 2 h_j ,   h_j = h σ_j ,   j = 1 … k
    z* = solver on f(0) + Σ_j z_j J_j ,   then the guard and the head at f(z*)

f are the features of the support set, an inference of a graph that takes z; σ_j is the standard deviation of
z_j a priori. Central differences (Nocedal and Wright 2006, *Numerical Optimization*, section 8.1) in place of
tangents: 2k + 1 inferences give the columns that one step of Gauss–Newton needs, another one the features
where it ends. Backpropagation has no such substitute: a gradient in all of φ would take one inference for
each of its numbers. Beside it, without labels: Niu et al. (2024), *Test-Time Model Adaptation with Only
Forward Passes*, where prompts are searched for in 28 inferences a generation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.adapter.adapting import can_adapt, settle
from adapt.adapter.described import build_component
from adapt.adapter.inputs import as_targets
from adapt.adapter.moved import first_line
from adapt.adapter.parts import check_names, check_parts
from adapt.adapter.problem import Memory, Problem, model_of
from adapt.adapter.state import AdapterState
from adapt.adapter.storage import CONFIG, read_stored
from adapt.adapter.untrained import for_values
from adapt.backbones import require
from adapt.checks import check_setting, least, positive
from adapt.edge.given import Given
from adapt.edge.graph import GRAPH, check_alone, network_hash
from adapt.edge.moves import carried_moves, layered_moves
from adapt.edge.own import moved_graph
from adapt.edge.single import Pool
from adapt.errors import AdaptError
from adapt.heads import HEADS
from adapt.inner import LOSSES, SOLVERS, GaussNewton, Solver

__all__ = ["EdgeAdapter", "EdgeTask"]

#: Of a :class:`FewShotAdapter`, and not here.
NONE: dict[str, Any] = {"backbone_name": None, "info": {}, "calibration": None, "match": None}


@dataclass(frozen=True)
class EdgeAdapter:
    """What :func:`adapt.edge.save_edge` wrote: everything of an adapter but its network, which is a graph.

    Attributes:
        session: of ONNX Runtime; maps x ``[n, …]`` and z ``[k]`` to features ``[n, D]``.
        state, solver, problem: as of the adapter.
        step: h, of the differences, in standard deviations of z; larger ones for a graph that rounds.
    """

    session: Any
    state: AdapterState
    solver: Solver
    problem: Problem
    step: float = 0.5

    def __post_init__(self) -> None:
        check_setting("step", self.step, positive())

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], graph: str = GRAPH, *, step: float = 0.5, threads: int = 1
    ) -> EdgeAdapter:
        """The adapter in ``folder``, with the network of one of the graphs there.

        Raises:
            AdaptError: missing or damaged files, a graph of another adapter, or no ONNX Runtime.
        """
        stored = read_stored(folder)
        path, config = stored.path / CONFIG, stored.config
        solver = build_component(config.get("solver"), SOLVERS, path)
        check_alone(solver, config.get("match"))
        parts = [build_component(config.get(role), HEADS, path) for role in ("support_head", "head")]
        problem = Problem(build_component(config.get("loss"), LOSSES, path), *parts)
        with _whole(stored.path):
            state = AdapterState.of({name: value.clone() for name, value in stored.tensors.items()})
            own = network_hash(state.tensors(), config["backbone"]["fingerprint"])
        there = stored.path / Path(graph).name
        if not there.is_file():
            raise AdaptError(f"{there} does not exist: write it with adapt.edge.save_edge or quantised")
        session = _session(there, threads, str(there))
        if session.get_modelmeta().custom_metadata_map.get("adapter") != own:
            raise AdaptError(
                f"{stored.path / graph} is of another adapter, or of an earlier one: write it with "
                "save_edge, and after that with quantised"
            )
        return cls(session, state, solver, problem, step)

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        moves: Mapping[str, Tensor] | FewShotAdapter | None = None,
        *,
        pool: Pool | None = None,
        pad: int = 0,
        regression: bool = False,
        step: float = 0.5,
        threads: int = 1,
        **parts: Any,
    ) -> EdgeAdapter:
        """An adapter of a network that is there as an ONNX graph only; needs the package onnx.

        Args:
            moves: U ``[k, *shape]`` of each initializer that moves, by its name; or an adapter of the same
                network in torch, of which everything is taken over (:func:`adapt.edge.carried_moves`); None:
                :func:`adapt.edge.layered_moves`.
            pool, pad: of token states and padding, see :func:`adapt.edge.moving`.
            regression: whether tasks are to predict values.
            step, threads: as of :meth:`load`.
            parts: others than those of the adapter, or of any :class:`adapt.adapter.FewShotAdapter` by
                default: ``solver``, ``head``, ``support_head``, ``loss``.

        Raises:
            AdaptError: as :func:`adapt.edge.moving`, or a part that cannot be used.
        """
        usual: dict[str, Any] = {"solver": GaussNewton(), **Problem()._asdict()}
        usual |= for_values() if regression else {}
        given = moves if isinstance(moves, FewShotAdapter) else None
        if isinstance(moves, FewShotAdapter):
            check_alone(moves.solver, moves.match, mixture=moves.state.is_mixture)
            usual = {"solver": moves.solver, **moves.problem._asdict()}
            moves = carried_moves(moves, path)
        check_names(parts, usual)
        graph, space, state = moved_graph(path, layered_moves(path) if moves is None else moves, pool, pad)
        if given is not None:
            learned = (value.detach().cpu().float() for value in given.state[2:])
            state = AdapterState(state.origin, state.basis, *learned)
        parts = usual | parts
        check_parts({**parts, **NONE, "space": space, "state": state})
        solver = parts.pop("solver")
        check_alone(solver, None)
        return cls(_session(graph, threads, str(path)), state, solver, Problem(**parts), step)

    def fit(self, x: Any, y: Any) -> EdgeTask:
        """Adapt to ``x [n, …]``, tensors as the graph takes them, and their labels or values ``y``.

        Raises:
            AdaptError: examples that the graph does not take, or labels that cannot be used.
        """
        examples = self.examples(x)
        classes, targets = as_targets(y, len(examples), self.state.origin, self.problem.loss)
        infer: Callable[[Tensor], Tensor] = lambda z: self.features(examples, z)  # noqa: E731
        z, before = self.state.origin.new_zeros(self.state.k), None
        passes = 1
        with torch.no_grad():
            if can_adapt(targets, self.problem.loss):
                memory = Memory(infer(z), self._columns(infer), targets)
                model = model_of(memory.at, self.state, targets, self.problem)
                moved, trace = self.solver(model, targets, self.problem.loss, self.state.learned)
                before = trace.losses[0] if len(trace.losses) else None
                passes = 2 + 2 * len(z)
            else:
                moved = z
            there = model_of(infer, self.state, targets, self.problem)
            end = settle(there, z, moved, before, targets, self.problem)
        return EdgeTask(self, end.point, end.head_state, classes, passes)

    def features(self, x: Tensor, z: Tensor) -> Tensor:
        """``[n, D]``: one inference."""
        return torch.from_numpy(self.session.run(None, {"x": x.numpy(), "x1": z.float().numpy()})[0])

    def _columns(self, infer: Callable[[Tensor], Tensor]) -> Tensor:
        """Derivatives of the features along every direction ``[k, n, D]``."""
        widths = self.step / self.state.learned.precision.sqrt()
        known = widths.isfinite() & (widths > 0)  # not of a direction that is free, or that is pinned
        steps = torch.diag(torch.where(known, widths, self.step))
        return torch.stack([(infer(step) - infer(-step)) / (2 * step.sum()) for step in steps])

    def examples(self, x: Any) -> Tensor:
        """``x [n, …]`` as the graph takes it.

        Raises:
            AdaptError: what it does not take.
        """
        wanted = self.session.get_inputs()[0]
        said = self.session.get_modelmeta().custom_metadata_map
        return Given.read(wanted.shape, wanted.type, said).examples(x)


@dataclass(frozen=True)
class EdgeTask:
    """A task that was adapted to.

    Attributes:
        z: where the solver arrived ``[k]``.
        head_state: of the head.
        classes_: the caller's labels ``[C]``, sorted; empty in regression.
        passes: inferences of the support set that adapting took.
    """

    adapter: EdgeAdapter
    z: Tensor
    head_state: Tensor
    classes_: np.ndarray
    passes: int

    def logits(self, x: Any) -> Tensor:
        """Outputs ``[m, C]``: logits, or in regression the predicted values."""
        with torch.no_grad():
            features = self.adapter.features(self.adapter.examples(x), self.z)
            return self.adapter.problem.head.logits(self.head_state, features)

    def predict_proba(self, x: Any) -> np.ndarray:
        """Class probabilities ``[m, C]``.

        Raises:
            AdaptError: in regression, which has no classes.
        """
        if not len(self.classes_):
            raise AdaptError("a regression task has no classes: use predict")
        return self.logits(x).softmax(-1).numpy()

    def predict(self, x: Any) -> np.ndarray:
        """Labels ``[m]``, or in regression values ``[m, C]``."""
        outputs = self.logits(x)
        return self.classes_[outputs.argmax(-1).numpy()] if len(self.classes_) else outputs.numpy()


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError):
        raise AdaptError(f"{folder} is no whole adapter: write it with save_edge") from None


def _session(graph: Path | bytes, threads: int, name: str) -> Any:
    threads = check_setting("threads", threads, least(1))
    runtime = require("onnxruntime")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever ONNX Runtime finds wrong with the file
        raise AdaptError(f"{name} cannot be read by ONNX Runtime: {first_line(error)}") from error
