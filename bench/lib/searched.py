"""A graph that is adapted by evolution: what ``bench/edge.py`` holds central differences against."""

from dataclasses import dataclass
from typing import Any

import torch

from adapt.adapter.adapting import settle
from adapt.adapter.inputs import as_targets
from adapt.adapter.problem import model_of
from adapt.baselines import CmaEs
from adapt.edge import EdgeAdapter, EdgeTask

__all__ = ["Searched"]


@dataclass(frozen=True)
class Searched:
    """``edge`` with z looked for by ``cma``, as in FOA (Niu et al. 2024, section 3.1), with labels."""

    edge: EdgeAdapter
    cma: CmaEs

    @property
    def inferences(self) -> int:
        """Of the support set: those of the search, at the start, and where it ended."""
        return self.cma.population * self.cma.generations + 2

    def fit(self, x: Any, y: Any) -> EdgeTask:
        """As :meth:`adapt.edge.EdgeAdapter.fit`."""
        edge, problem = self.edge, self.edge.problem
        examples = edge.examples(x)
        classes, targets = as_targets(y, len(examples), edge.state.origin, problem.loss)
        start = edge.state.origin.new_zeros(edge.state.k)
        with torch.no_grad():
            model = model_of(lambda z: edge.features(examples, z), edge.state, targets, problem)
            z, _ = self.cma(model, targets, problem.loss, edge.state.learned)
            before = problem.loss.value(model.readout(model.features(start), None), targets)
            end = settle(model, start, z, before, targets, problem)
        return EdgeTask(edge, end.point, end.head_state, classes, self.inferences)
