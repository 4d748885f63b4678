"""From where a network is adapted: as it is, or on the way to a start that was learned on many domains.

    φ(s) = φ + s (φ₀ − φ) ,                                            s = 0, ½, 1
    s* = argmin_s Σ_i ℓ_i(head on the features of φ(s), fitted without the fold of i)

Which share is right differs between tasks: a start learned on characters and signs may have forgotten what
photographs need. Held-out examples choose, as they choose the head (Stone 1974, *Cross-Validatory Choice and
Assessment of Statistical Predictions*); the path between the two is that of Wortsman et al. (2022), *Robust
Fine-tuning of Zero-shot Models*, equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter import FewShotAdapter
from adapt.adapter.loading import load
from adapt.adapter.storage import read_stored
from adapt.backbones import fingerprint
from adapt.heads.base import one_hot
from adapt.own_data.head import FOLDS, HeadChoice, choose_head, folds_of
from adapt.own_data.networks import NETWORKS, Network

__all__ = ["SHARES", "UNSEEN", "at_shares", "heads_on", "judged_by", "nearest", "shipped_for", "start_of"]

#: Shares of the way; the first is the network as it is.
SHARES = (0.0, 0.5, 1.0)
#: The share where no class has two examples, so that none can be held out.
UNSEEN = 0.5
#: Examples by which a share is chosen, at most.
JUDGED = 300


@lru_cache(maxsize=2)
def _start(name: str, module: nn.Module) -> FewShotAdapter:
    found: FewShotAdapter = load(name, module)
    return found


def shipped_for(name: str) -> str:
    """Of a network, the name of the start that ships; empty if there is none."""
    recipes = [recipe for family in NETWORKS.values() for recipe in family]
    return next((recipe.start for recipe in recipes if recipe.name == name), "")


def start_of(module: nn.Module, name: str) -> FewShotAdapter | None:
    """The start that ships for a network, by its name and weights; None if there is none."""
    if not (shipped := shipped_for(name)):
        return None
    made_for = read_stored(shipped).config["backbone"]["fingerprint"]
    return _start(shipped, module) if made_for == fingerprint(module) else None


def at_shares(network: Network) -> list[Network]:
    """``network`` as it is, and on the way to its start, if it has one."""
    if not network.recipe.start or network.start is not None:
        return [network]
    start = _start(network.recipe.start, network.module)
    moved, found = start.state.origin - start.space.initial, [network]
    for share in SHARES[1:]:
        state = start.state._replace(origin=start.space.initial + share * moved)
        found.append(replace(network, start=(start.space, state), share=share))
    return found


class Nearest(NamedTuple):
    """``network`` adapted from where held-out examples speak for.

    ``features``: if all examples were asked, what it makes of them ``[n, D]``; and then ``head``, the best on
    these, with every example judged from where the *other* folds speak for.
    """

    network: Network
    features: Tensor | None = None
    head: HeadChoice | None = None


def nearest(
    network: Network,
    y: np.ndarray,
    features: Callable[[Network, np.ndarray], Tensor],
    *,
    regression: bool,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> Nearest:
    """From where ``network`` is adapted.

    Args:
        y: labels ``[n]``; in regression values ``[n, C]``.
        features: of some of the examples, by their numbers, ``[m, D]``.
        regression: whether values are to be predicted.
        seed: of the division into parts.
        weights: how much each example counts ``[n]``; None: 1.
    """
    networks = at_shares(network)
    if len(networks) == 1:
        return Nearest(network)
    n = len(y)
    rows = (
        np.unique(np.linspace(0, n - 1, min(n, JUDGED)).round().astype(int)) if regression else judged_by(y)
    )
    if not len(rows):  # too little can be held out
        return Nearest(next(it for it in networks if it.share == UNSEEN))
    found = [features(it, rows) for it in networks]
    fold = folds_of(None if regression else y[rows], len(rows), min(FOLDS, len(rows)), seed)
    some = None if weights is None else weights[rows]
    heads = heads_on(found, y[rows], fold, regression=regression, weights=some)
    best = int(np.argmin([head.loss for head in heads]))
    if len(rows) < n:
        return Nearest(networks[best])
    outputs, judged = nested(heads, fold)
    return Nearest(networks[best], found[best], replace(heads[best], outputs=outputs, losses=judged))


def heads_on(
    features: Iterable[Tensor],
    y: np.ndarray,
    fold: np.ndarray,
    *,
    regression: bool,
    weights: np.ndarray | None = None,
) -> list[HeadChoice]:
    """The best head on each of several ``features [n, D]`` of the same examples; ``y``: labels ``[n]``, at
    least two of every class, or values ``[n, C]``."""
    targets = torch.from_numpy(y if regression else np.unique(y, return_inverse=True)[1])
    targets = targets if regression else one_hot(targets, len(np.unique(y)))
    heads = []
    for found in features:
        mass = None if weights is None else torch.from_numpy(weights).to(found)
        with torch.no_grad():
            heads.append(choose_head(found, targets.to(found), fold, regression, weights=mass))
    return heads


def nested(heads: Sequence[HeadChoice], fold: np.ndarray) -> tuple[Tensor, Tensor]:
    """Outputs ``[n, C]`` and losses ``[n]`` of every example, by the one of ``heads`` that the other folds
    choose."""
    outputs, losses = heads[0].outputs.clone(), heads[0].losses.clone()
    all_losses = torch.stack([head.losses for head in heads])
    for number in np.unique(fold):
        out = torch.from_numpy(fold == number)
        best = heads[int(all_losses[:, ~out].mean(1).argmin())]
        outputs[out], losses[out] = best.outputs[out], best.losses[out]
    return outputs, losses


def judged_by(y: np.ndarray) -> np.ndarray:
    """Numbers of the examples that choose a share, sorted: all of a class that has several, or as many as are
    enough; none, if most classes have one example only.

    Args:
        y: labels ``[n]``.

    Example:
        >>> [judged_by(np.array(labels)).tolist() for labels in (["a", "b", "c", "a", "b"], ["a", "a", "b"])]
        [[0, 1, 3, 4], []]
    """
    labels, counts = np.unique(y, return_counts=True)
    several = labels[counts > 1]
    if len(several) < max(2, len(labels) / 2):
        return np.array([], np.int64)
    several = several[:: -(-len(several) // (JUDGED // 2))]
    each = max(2, JUDGED // len(several))
    return np.sort(np.concatenate([np.flatnonzero(y == label)[:each] for label in several]))
