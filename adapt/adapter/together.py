"""Adapting together without sharing examples: each sends k² + k numbers.

    z ← z − (Σ_c G_c + Λ⁻¹)⁻¹ (Σ_c g_c + Λ⁻¹ z) ,   G = Σ_i J_iᵀ H_i J_i ,   g = Σ_i J_iᵀ ∇ℓ_i   of one
    client's examples at z

Sums over examples are sums over clients, so this is the Gauss–Newton step on all examples together, to the
last bit but for the order of addition; several rounds are several steps. (Averaging gradients, as McMahan,
Moore, Ramage, Hampson, Agüera y Arcas 2017, *Communication-Efficient Learning of Deep Networks from
Decentralized Data*, would take as many rounds as descent takes steps.)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.inputs import Examples, Labels, as_targets, no_other
from adapt.adapter.loaders import paired
from adapt.adapter.private import Privacy, private_sums, secret
from adapt.adapter.problem import features_of, model_of
from adapt.adapter.record import AdapterRecord
from adapt.backbones import fingerprint
from adapt.checks import check_setting, least
from adapt.errors import AdaptError
from adapt.forward import directions, pushforward
from adapt.heads import Direct, one_hot
from adapt.inner.levenberg_marquardt import Quadratic, minimise, quadratic
from adapt.inner.posterior import is_positive
from adapt.precision import double, outside_autocast
from tasks.readers.labels import classes_of, read_labels

__all__ = ["Statistics", "solved", "statistics_of", "whole_classes"]


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
        adapter: hash of the network and of the state of the adapter that made them.
        private: whether there is noise in them: then nobody knows how far z is off.
    """

    at: Tensor
    curvature: Tensor
    gradient: Tensor
    value: float
    examples: int
    outputs: int
    adapter: str
    private: bool = False

    @property
    def nbytes(self) -> int:
        """That are sent, of a symmetric matrix and a vector, with its z."""
        k = len(self.at)
        return (k * (k + 1) // 2 + 2 * k) * self.at.element_size()


def statistics_of(
    adapter: AdapterRecord,
    x: Examples,
    y: Labels | None,
    classes: Sequence[Any] | None,
    at: Tensor | None,
    private: Privacy | None,
    generator: torch.Generator | None,
) -> Statistics:
    """See :meth:`adapt.FewShotAdapter.statistics`."""
    _check_head(adapter)
    if adapter.match is not None:
        raise AdaptError(
            "the norms follow each client's own examples, so that sums of theirs belong to no common start: "
            "use adapter.matched(x) with examples that all may see, or match=None"
        )
    if not isinstance(private, Privacy | None):
        raise AdaptError(f"private is a {type(private).__name__}: pass adapt.adapter.Privacy(epsilon=1.0)")
    if not isinstance(generator, torch.Generator | None):
        raise AdaptError(f"generator is a {type(generator).__name__}: pass a torch.Generator, or None")
    x, y = paired(x, y)
    labels = whole_classes(adapter, classes)
    examples, loss, state = adapter.examples(x), adapter.loss, adapter.state
    if loss.regression:
        targets = as_targets(y, len(examples), state.origin, loss)[1]
    else:
        place = no_other(y, len(examples), labels, "give classes= the labels of all clients")
        targets = one_hot(torch.from_numpy(place), len(labels)).to(state.origin)
    z = _start(at, state.origin.new_zeros(state.k))
    with torch.no_grad():
        features = features_of(adapter.backbone, adapter.space, state, examples, adapter.rows)
        model = model_of(features, state, targets, adapter.problem)
        outputs, columns = pushforward(model.__call__, z, directions(z))
        with outside_autocast(z.device):
            if private is None:
                found = quadratic(outputs, columns, targets, loss)
            else:
                drawn = generator if generator is not None else torch.Generator().manual_seed(secret())
                prior = state.learned.precision
                found = private_sums(outputs, columns, targets, loss, prior, private, drawn)
    sums = (found.curvature.to(z), found.gradient.to(z), float(found.value))
    sent = Statistics(z, *sums, len(examples), targets.shape[1], _identity(adapter), private is not None)
    _check(sent, state.k)
    return sent


def whole_classes(adapter: AdapterRecord, classes: Sequence[Any] | None) -> np.ndarray:
    """The labels of all clients ``[C]``, sorted; none of a regression.

    Raises:
        AdaptError: there are none, or they are no labels, or there are some of a regression.
    """
    if adapter.loss.regression:
        if classes is not None:
            raise AdaptError("classes: this adapter does regression, which has none: leave them out")
        return np.empty(0)
    if classes is None:
        raise AdaptError("classes=None: clients may see different ones, so give the labels of all")
    labels = classes_of(read_labels(classes, None, AdaptError, "classes"))[0]
    if len(labels) < 2:
        raise AdaptError(f"classes={labels.tolist()}: a task needs at least two")
    return labels


def _start(at: Tensor | None, zero: Tensor) -> Tensor:
    """z ``[k]`` that a round begins at."""
    if at is None:
        return zero
    try:
        z = torch.as_tensor(at).to(zero)
    except (TypeError, ValueError, RuntimeError):
        raise AdaptError(f"at is a {type(at).__name__}: pass task.z of the round before") from None
    if z.shape != zero.shape or not bool(torch.isfinite(z).all()):
        raise AdaptError(
            f"at has shape {tuple(z.shape)}, but {len(zero)} finite numbers are needed, one of each "
            "direction: pass task.z of the round before"
        )
    return z


def solved(adapter: AdapterRecord, parts: Sequence[Statistics]) -> tuple[Tensor, Quadratic]:
    """z ``[k]`` after one Gauss–Newton step on all examples together, and their quadratic model."""
    if not isinstance(parts, Sequence) or not all(isinstance(part, Statistics) for part in parts):
        raise AdaptError("statistics: pass a list of what adapter.statistics(x, y) gave each client")
    check_setting("statistics", len(parts), least(1, "one client's at least"))
    _check_head(adapter)
    state, own, first = adapter.state, _identity(adapter), parts[0]
    for number, part in enumerate(parts):
        if part.adapter != own:
            raise AdaptError(f"statistics[{number}] are of another adapter or network: all need the same")
        _check(part, state.k, f"statistics[{number}]")
        if not torch.equal(double(part.at.cpu()), double(first.at.cpu())) or part.outputs != first.outputs:
            raise AdaptError("statistics at different z, or of different outputs: take them in one round")
    like = double(state.origin)
    sums = Quadratic(
        like.new_tensor(sum(part.value for part in parts)),
        torch.stack([part.gradient.to(like) for part in parts]).sum(0),
        torch.stack([part.curvature.to(like) for part in parts]).sum(0),
    )
    damping = getattr(adapter.solver, "damping", 1.0)
    precision, at = damping * state.learned.precision, first.at.to(state.origin)
    # The step from z is that from 0 of the model with its origin there, whose prior pulls towards −z.
    pulled = sums.gradient + precision.where(precision.isfinite(), 0 * at) * at
    step = minimise(lambda _: sums._replace(gradient=pulled), 1, precision, damping * state.learned.damping).z
    return at + step.to(at), sums


def _identity(adapter: AdapterRecord) -> str:
    """Of the adapter: statistics of another one are sums over other directions."""
    digest = hashlib.sha256(fingerprint(adapter.backbone).encode())
    for tensor in (adapter.state.origin, adapter.state.basis):
        digest.update(tensor.detach().cpu().double().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check(part: Statistics, k: int, name: str = "statistics") -> None:
    """Refuse what is no sum over examples, since it comes from somebody else.

    Raises:
        AdaptError: shapes, values that are not finite, a matrix that is not symmetric and positive, counts.
    """
    g = part.curvature
    shapes = [tuple(it.shape) for it in (part.at, part.gradient, g)]
    if shapes != [(k,), (k,), (k, k)]:
        raise AdaptError(f"{name}: z, gradient and curvature have shapes {shapes}, but k is {k}")
    if not all(bool(torch.isfinite(it).all()) for it in (part.at, part.gradient, g)) or not (
        isfinite(part.value) and part.value >= 0 and part.examples >= 1 and part.outputs >= 1
    ):
        raise AdaptError(
            f"{name} hold NaN, infinity, a negative loss or no examples: scale the examples as in fit"
        )
    if not is_positive(double(g)):
        raise AdaptError(f"{name}: the curvature is not symmetric and positive, so no sum over examples")


def _check_head(adapter: AdapterRecord) -> None:
    for head in (adapter.head, adapter.support_head):
        if not isinstance(head, Direct):
            raise AdaptError(
                f"the head {type(head).__name__} is fitted to all examples, which statistics do not tell: "
                "adapting together needs a network whose outputs are the predictions (heads.Direct)"
            )
