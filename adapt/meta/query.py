"""How good a state is for a task: adapt to the support, look at the queries."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from adapt.adapter.adapting import adapt
from adapt.adapter.matching import Matching, matched_state
from adapt.adapter.mixture import mixed_state, shares_of, summary
from adapt.adapter.problem import Problem, features_of
from adapt.adapter.state import AdapterState
from adapt.backbones import call, inputs_for
from adapt.heads import one_hot
from adapt.inner import Loss, Solver
from adapt.spaces import Space, Subspace
from tasks import Episode

__all__ = ["Learner", "Score", "query_logits", "targets_of"]


class Score(NamedTuple):
    """Of the queries: ``loss``, cross-entropy or mean squared error; ``metric``, accuracy or that error."""

    loss: Tensor
    metric: Tensor


@dataclass(frozen=True)
class Learner:
    """Everything about adapting that outer training leaves as it is; functions of a state and one task, pure
    and vmappable over tasks."""

    backbone: nn.Module
    space: Space
    solver: Solver
    problem: Problem
    match: Matching | None = None

    def adapt(
        self, state: AdapterState, episode: Episode, *, first_order: bool = False
    ) -> tuple[Tensor, Tensor]:
        """z* ``[k]`` of the support set, and outputs ``[m, C]`` for the queries; differentiable in ``state``,
        with z* a constant if ``first_order``."""
        x = inputs_for(self.backbone, episode.support_x)
        targets = targets_of(episode, state.origin, self.problem.loss)
        if state.is_mixture:
            state = mixed_state(state, self.shares(state, episode))
        if self.match is not None:
            state = matched_state(self.match, self.backbone, self.space, state, x)
        support = features_of(self.backbone, self.space, state, x)
        found = adapt(support, state, self.solver, targets, self.problem, first_order=first_order)
        parameters = Subspace(self.space, state.origin, state.basis).parameters(found.z)
        features = call(self.backbone, parameters, inputs_for(self.backbone, episode.query_x))
        return found.z, self.problem.head.logits(found.head_state, features)

    def shares(self, state: AdapterState, episode: Episode) -> Tensor:
        """w ``[M]`` of the subspaces of a mixture, for the support set."""
        x, loss = inputs_for(self.backbone, episode.support_x), self.problem.loss
        targets = targets_of(episode, state.origin, loss)
        return shares_of(state, summary(self.backbone, self.space, state, x, targets, loss))

    def score(self, outputs: Tensor, episode: Episode) -> Score:
        """Of ``outputs`` for the queries."""
        y = episode.query_y.to(outputs.device)
        if self.problem.loss.regression:
            error = nn.functional.mse_loss(outputs, y.to(outputs.dtype))
            return Score(error, error.detach())
        right = (outputs.argmax(-1) == y).to(outputs.dtype)
        return Score(nn.functional.cross_entropy(outputs, y), right.mean())


def query_logits(
    backbone: nn.Module,
    space: Space,
    state: AdapterState,
    solver: Solver,
    problem: Problem,
    episode: Episode,
) -> Tensor:
    """Outputs ``[m, C]`` for the queries after adapting to the support; differentiable in ``state``."""
    return Learner(backbone, space, solver, problem).adapt(state, episode)[1]


def targets_of(episode: Episode, like: Tensor, loss: Loss) -> Tensor:
    """Support targets ``[n, C]``, one-hot or values, in ``like``'s dtype and on its device."""
    y = episode.support_y.to(like.device)
    return y.to(like.dtype) if loss.regression else one_hot(y, len(episode.meta.classes), like.dtype)
