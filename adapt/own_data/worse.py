"""How a fit does on examples that are worse than those that it learned from (:mod:`tasks.worse`).

By the head on the network as it is, fitted without a part of the examples, which is then predicted twice: as
it is and worsened.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.backbones import call
from adapt.own_data.head import fitted
from adapt.own_data.passes import ROWS, Inputs, as_inputs
from adapt.own_data.prepared import Prepared
from adapt.own_data.score import Score, score_classes, score_values
from adapt.own_data.trial import adapter_for
from tasks.worse import shortened, worsened

__all__ = ["on_worse"]

#: Examples that are worsened.
MOST = 200


def on_worse(fit: Prepared) -> dict[str, Any]:
    """Scores of the same examples as they are, ``clean``, and ``worse``, as JSON holds them; empty where the
    others do not show all classes."""
    out = fit.fold == fit.fold.min()
    rows = np.flatnonzero(out)[:MOST]
    kept = torch.from_numpy(~out)
    if not fit.reader.regression and bool((fit.targets[kept].sum(0) == 0).any()):
        return {}
    head = fit.head.head
    with torch.no_grad():
        state = fitted(head, fit.features[kept], fit.targets[kept])
        clean = head.logits(state, fit.features[rows])
        worse = head.logits(state, _features(fit, rows))
    return {"clean": _score(fit, rows, clean).to_dict(), "worse": _score(fit, rows, worse).to_dict()}


def _features(fit: Prepared, rows: np.ndarray) -> Tensor:
    """Of worsened examples, by the network as it is ``[m, D]``."""
    adapter = adapter_for(fit.network, "head", fit.head.head, fit.reader.regression)
    generator = torch.Generator().manual_seed(fit.seed)
    inputs = as_inputs(fit.labelled.examples.x, rows)
    changed: Inputs = (
        shortened(inputs, generator) if isinstance(inputs, list) else worsened(inputs, generator)
    )
    parts = [changed[start : start + ROWS] for start in range(0, len(changed), ROWS)]
    return torch.cat([_read(fit, adapter, part) for part in parts])


def _read(fit: Prepared, adapter: FewShotAdapter, part: Inputs) -> Tensor:
    return call(fit.network.module, fit.network.parameters, adapter.examples(part)).float()


def _score(fit: Prepared, rows: np.ndarray, outputs: Tensor) -> Score:
    if fit.reader.regression:
        values = outputs[:, 0].double().numpy() * fit.spread + fit.center
        return score_values(values, np.asarray(fit.labelled.y, np.float64)[rows])
    predicted = [str(fit.classes[best]) for best in outputs.argmax(1)]
    return score_classes(predicted, fit.y[rows].tolist())
