"""Adapting without the examples whose labels look wrong.

    keep = { i : no other class is as probable for i, to a task without i, as it is where it is the label }
    task = adapt(examples of keep)

Northcutt, Jiang, Chuang (2021), *Confident Learning: Estimating Uncertainty in Dataset Labels*, section 3.3,
with what each example scores without itself in the place of folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapt.adapter.fitted import FittedTask
from adapt.adapter.labelling import looked_back_at, trusted

__all__ = ["trimmed"]


def trimmed(fit: Callable[..., FittedTask], examples: Tensor, y: Any, keep: bool) -> FittedTask:
    """See :meth:`adapt.FewShotAdapter.fit`, which is ``fit`` and whose ``trim`` this is."""
    first = fit(examples, y, keep=True)
    rows = trusted(first)
    if rows.all():
        return first if keep else replace(first, memory=None)
    labels = first.classes_[looked_back_at(first).targets.argmax(1).cpu().numpy()]
    found = fit(examples[torch.from_numpy(rows).to(examples.device)], labels[rows], keep=keep)
    left = int((~rows).sum())
    said = f"{left} example{'s' * (left > 1)} left out, whose label looks wrong"
    spent = first.trace.forward_equivalents + found.trace.forward_equivalents * rows.mean()
    trace = found.trace._replace(choice="; ".join(filter(None, (found.trace.choice, said))))
    return replace(found, trace=trace._replace(forward_equivalents=float(spent)))
