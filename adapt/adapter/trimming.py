"""Adapting without the examples whose labels look wrong.

    keep = { i : y_i = argmin_c ‖f_i − μ_c^(−i)‖ }
    task = adapt(examples of keep)

Wilson (1972), *Asymptotic Properties of Nearest Neighbor Rules Using Edited Data*, section I, with class
means in the place of neighbours, of which few examples have few; features f are those of a task that was
adapted to all.
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
