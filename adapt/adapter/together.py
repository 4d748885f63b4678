"""Adapting together without sharing examples: each sends k² + k numbers.

    z ← z − (Σ_c G_c + Λ⁻¹)⁻¹ (Σ_c g_c + Λ⁻¹ z) ,   G = Σ_i J_iᵀ H_i J_i ,   g = Σ_i J_iᵀ ∇ℓ_i   of one
    client's examples at z

Sums over examples are sums over clients, so this is the Gauss–Newton step on all examples together, to the
last bit but for the order of addition; several rounds are several steps. (Averaging gradients, as McMahan,
Moore, Ramage, Hampson, Agüera y Arcas 2017, *Communication-Efficient Learning of Deep Networks from
Decentralized Data*, would take as many rounds as descent takes steps.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.inputs import Examples, Labels, as_positions, as_targets
from adapt.adapter.problem import features_of, model_of
from adapt.adapter.record import AdapterRecord
from adapt.checks import check_setting, least
from adapt.errors import AdaptError
from adapt.forward import pushforward
from adapt.heads import Direct, one_hot
from adapt.inner.levenberg_marquardt import Quadratic, minimise, quadratic
from adapt.precision import outside_autocast

__all__ = ["Statistics", "solved", "statistics_of"]


@dataclass(frozen=True)
class Statistics:
    """What a client's examples say of z.

    Attributes:
        at: the z ``[k]`` that they are of.
        curvature: G ``[k, k]``.
        gradient: g ``[k]``.
        value: the support loss there, a sum.
        examples: their number.
        outputs: numbers that are predicted of each.
    """

    at: Tensor
    curvature: Tensor
    gradient: Tensor
    value: float
    examples: int
    outputs: int

    @property
    def nbytes(self) -> int:
        """That are sent, of a symmetric matrix and a vector, with its z."""
        k = len(self.at)
        return (k * (k + 1) // 2 + 2 * k) * self.at.element_size()


def statistics_of(
    adapter: AdapterRecord, x: Examples, y: Labels, classes: np.ndarray | None, at: Tensor | None
) -> Statistics:
    """See :meth:`adapt.FewShotAdapter.statistics`."""
    _check_head(adapter)
    examples, loss = adapter.examples(x), adapter.loss
    if loss.regression:
        targets = as_targets(y, len(examples), adapter.state.origin, loss)[1]
    elif classes is None:
        raise AdaptError("classes=None: clients may see different ones, so give the labels of all")
    else:
        place = as_positions(y, len(examples), classes)
        if (place < 0).any():
            raise AdaptError(f"y holds a label that is none of classes={classes.tolist()}")
        targets = one_hot(torch.from_numpy(place), len(classes)).to(adapter.state.origin)
    state = adapter.state
    z = state.origin.new_zeros(state.k) if at is None else at.to(state.origin)
    if z.shape != (state.k,):
        raise AdaptError(f"at has shape {tuple(z.shape)}, but this adapter has {state.k} directions")
    with torch.no_grad():
        features = features_of(adapter.backbone, adapter.space, state, examples, adapter.rows)
        model = model_of(features, state, targets, adapter.problem)
        outputs, columns = pushforward(model.__call__, z, torch.eye(state.k, dtype=z.dtype, device=z.device))
        with outside_autocast(z.device):
            found = quadratic(outputs, columns, targets, loss)
    return Statistics(z, found.curvature, found.gradient, float(found.value), len(examples), targets.shape[1])


def solved(adapter: AdapterRecord, parts: Sequence[Statistics]) -> tuple[Tensor, Quadratic]:
    """z ``[k]`` after one Gauss–Newton step on all examples together, and their quadratic model."""
    check_setting("statistics", len(parts), least(1, "one client's at least"))
    first = parts[0]
    for part in parts:
        if part.at.shape != (adapter.state.k,):
            raise AdaptError(
                f"statistics of {len(part.at)} directions, but this adapter has {adapter.state.k}: they are "
                "of another adapter"
            )
        if not torch.equal(part.at, first.at) or part.outputs != first.outputs:
            raise AdaptError("statistics at different z, or of different outputs: take them in one round")
    sums = Quadratic(
        first.curvature.new_tensor(sum(part.value for part in parts)),
        torch.stack([part.gradient for part in parts]).sum(0),
        torch.stack([part.curvature for part in parts]).sum(0),
    )
    learned = adapter.state.learned
    damping = getattr(adapter.solver, "damping", 1.0)
    precision = damping * learned.precision
    # The step from z is that from 0 of the model with its origin there, whose prior pulls towards −z.
    pulled = sums.gradient + (precision.where(precision.isfinite(), 0 * precision) * first.at).to(
        sums.gradient
    )
    step = minimise(lambda _: sums._replace(gradient=pulled), 1, precision, damping * learned.damping).z
    return first.at + step.to(first.at), sums


def _check_head(adapter: AdapterRecord) -> None:
    for head in (adapter.head, adapter.support_head):
        if not isinstance(head, Direct):
            raise AdaptError(
                f"the head {type(head).__name__} is fitted to all examples, which statistics do not tell: "
                "adapting together needs a network whose outputs are the predictions (heads.Direct)"
            )
