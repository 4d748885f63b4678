"""Adapting with a mixture of subspaces: which of them, and then as ever.

    soft        w = softmax(R [s; 1])
    by evidence the w among it and e_1 … e_M whose posterior has the greatest log p(y)   (``inner=auto``)

MacKay (1992), *Bayesian Interpolation*, section 3: models are compared by what they say of the data before
they have seen them. The evidence is that of the posterior, which the columns that adapting takes anyway give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapt.adapter.fitted import FittedTask
from adapt.adapter.inputs import as_targets
from adapt.adapter.mixture import mixed_state, shares_of, summary
from adapt.adapter.problem import features_of, model_of
from adapt.adapter.record import AdapterRecord
from adapt.inner import Auto
from adapt.inner.evidence import STRONG
from adapt.inner.posterior import log_evidence

__all__ = ["fit_mixture", "routed"]

Adapter = TypeVar("Adapter", bound=AdapterRecord)


def routed(adapter: Adapter, examples: Tensor, targets: Tensor, *, shares: Tensor | None = None) -> Adapter:
    """``adapter`` with the one subspace that its mixture comes to for a support set, or by ``shares [M]``."""
    state = adapter.state
    with torch.no_grad():
        if shares is None:
            parts = (adapter.backbone, adapter.space, state, examples, targets, adapter.loss, adapter.rows)
            shares = shares_of(state, summary(*parts))
        return adapter.replace(state=mixed_state(state, shares))


def fit_mixture(adapter: Any, examples: Tensor, y: Any, **how: Any) -> FittedTask:
    """See :meth:`FewShotAdapter.fit`, which this is of an ``adapter`` with a mixture."""
    targets = as_targets(y, len(examples), adapter.state.origin, adapter.loss)[1]
    task: FittedTask = routed(adapter, examples, targets).fit(examples, y, **how)
    spent, chosen, name = task.trace.forward_equivalents + 1, task, "the mixture"
    if isinstance(adapter.solver, Auto):
        # What was learned, unless another is clearly better.
        best = _evidence(task, examples, targets) + STRONG
        for number, alone in enumerate(_alone(adapter, examples, targets)):
            found = alone.fit(examples, y, **how)
            evidence = _evidence(found, examples, targets)
            spent += found.trace.forward_equivalents + 1
            if evidence > best:
                best, chosen, name = evidence, found, f"subspace {number} alone"
        trace = chosen.trace
        choice = "; ".join(filter(None, (trace.choice, f"{name} has the evidence on its side")))
        return replace(chosen, trace=trace._replace(choice=choice, forward_equivalents=spent))
    return replace(task, trace=task.trace._replace(forward_equivalents=spent))


def _alone(adapter: Any, examples: Tensor, targets: Tensor) -> Iterator[Any]:
    for shares in torch.eye(len(adapter.state.router)).to(adapter.state.origin):
        yield routed(adapter, examples, targets, shares=shares)


def _evidence(task: FittedTask, examples: Tensor, targets: Tensor) -> float:
    """log p(targets), −∞ of a task without a posterior."""
    if task.posterior is None:
        return -math.inf
    adapter = task.adapter
    with torch.no_grad():
        features = features_of(adapter.backbone, adapter.space, adapter.state, examples, adapter.rows)
        model = model_of(features, adapter.state, targets, adapter.problem)
        value = adapter.loss.value(model.readout(features(task.z), None), targets)
        found = float(log_evidence(task.posterior, value, targets, adapter.loss))
    return -math.inf if math.isnan(found) else found
