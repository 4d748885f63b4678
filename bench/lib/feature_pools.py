"""Pictures as features, made once: what benchmarks of heads and of starts draw tasks of.

Features are those of EfficientNet-Lite0 with its ImageNet weights, of 128 pixels, or with other parameters in
the place of some of its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapt.app.progress import progress
from adapt.backbones import call, load_backbone
from bench.vision import SPLITS, source
from tasks import ArraySource

__all__ = ["embedded", "network", "pool"]

#: Examples of a class, and classes of a split, whose features are made.
PER_CLASS, CLASSES = 40, 200
#: The same of a miniature, and the fewest classes.
QUICK, FEWEST = (20, 4), 5


@cache
def network(quick: bool = False) -> nn.Module:
    """EfficientNet-Lite0 at 128 pixels; of a miniature at 32, which takes a tenth of the time."""
    size = 32 if quick else 128
    return load_backbone("timm:tf_efficientnet_lite0", weights="package:efficientnet_lite0", size=size)[0]


def pool(
    name: str,
    path: Path,
    quick: bool,
    parameters: Mapping[str, Tensor] | None = None,
    *,
    per_class: int = PER_CLASS,
) -> ArraySource:
    """The source whose examples are the features of ``name``'s, of validation and of test classes; kept in
    ``path``.

    Args:
        parameters: in the place of the network's own.
        per_class: examples of each class, at most.
    """
    images = source(name)
    each, classes = QUICK if quick else (per_class, CLASSES)
    members: dict[str, dict[str, np.ndarray]] = {}
    rows: list[np.ndarray] = []
    for split in dict.fromkeys(it for part in SPLITS[name][1:] for it in part if it is not None):
        members[split] = {}
        for label, indices in [*images.classes(split).items()][: max(classes, FEWEST)]:
            kept = indices[:each]
            first = sum(map(len, rows))
            rows.append(kept)
            members[split][label] = np.arange(first, first + len(kept))
    if not path.exists():
        found = embedded(network(quick), images.load(np.concatenate(rows)), path.stem, parameters)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
    card = replace(images.card, name=f"features of {name}")
    return ArraySource(card, np.load(path), members)


def embedded(
    module: nn.Module, x: Tensor, shown: str, parameters: Mapping[str, Tensor] | None = None
) -> np.ndarray:
    """Of images ``[n, c, h, w]`` in [0, 1]: ``[n, D]``; ``shown``: beside the progress."""
    parts, moved = x.expand(-1, 3, -1, -1).split(64), dict(parameters or {})
    with torch.no_grad():
        return torch.cat([call(module, moved, part) for part in progress(shown)(parts)]).numpy()
