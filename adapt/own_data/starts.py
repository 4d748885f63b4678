"""From where a network is adapted: as it is, or on the way to a start that was learned on many domains.

    φ(s) = φ + s (φ₀ − φ) ,                                            s = 0, ½, 1
    s* = argmin_s Σ_i ℓ_i(head on the features of φ(s), fitted without the fold of i)

Which share is right differs between tasks: a start learned on characters and signs may have forgotten what
photographs need. Held-out examples choose, as they choose the head (Stone 1974, *Cross-Validatory Choice and
Assessment of Statistical Predictions*); the path between the two is that of Wortsman et al. (2022), *Robust
Fine-tuning of Zero-shot Models*, equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter import FewShotAdapter
from adapt.adapter.loading import load
from adapt.errors import AdaptError
from adapt.heads.base import one_hot
from adapt.own_data.head import FOLDS, choose_head, folds_of
from adapt.own_data.networks import NETWORKS, Network

__all__ = ["SHARES", "UNSEEN", "at_shares", "held_out_losses", "judged_by", "nearest", "start_of"]

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


def start_of(module: nn.Module, name: str) -> FewShotAdapter | None:
    """The start that ships for a network, by its name and weights; None if there is none."""
    recipes = [recipe for family in NETWORKS.values() for recipe in family]
    shipped = next((recipe.start for recipe in recipes if recipe.name == name), "")
    if not shipped:
        return None
    try:
        return _start(shipped, module)
    except AdaptError:  # of the same architecture with other weights
        return None


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


def nearest(
    network: Network,
    y: np.ndarray,
    features: Callable[[Network, np.ndarray], Tensor],
    *,
    regression: bool,
    seed: int = 0,
) -> tuple[Network, Tensor | None]:
    """``network`` adapted from where held-out examples speak for; and, if all examples were asked, what it
    makes of them ``[n, D]``.

    Args:
        y: labels ``[n]``; in regression values ``[n, C]``.
        features: of some of the examples, by their numbers, ``[m, D]``.
        regression: whether values are to be predicted.
        seed: of the division into parts.
    """
    networks = at_shares(network)
    if len(networks) == 1:
        return network, None
    rows = np.arange(min(len(y), JUDGED)) if regression else judged_by(y)
    if not len(rows):  # nothing can be held out
        return next(it for it in networks if it.share == UNSEEN), None
    found = [features(it, rows) for it in networks]
    best = int(np.argmin(held_out_losses(found, y[rows], regression=regression, seed=seed)))
    return networks[best], found[best] if len(rows) == len(y) else None


def held_out_losses(
    features: Iterable[Tensor], y: np.ndarray, *, regression: bool, seed: int = 0
) -> list[float]:
    """Of the same examples with several ``features [n, D]``, of whichever head is best on each; ``y``: labels
    ``[n]``, two at least of every class, or values ``[n, C]``."""
    targets = torch.from_numpy(y if regression else np.unique(y, return_inverse=True)[1])
    targets = targets if regression else one_hot(targets, len(np.unique(y)))
    fold = folds_of(None if regression else y, len(y), min(FOLDS, len(y)), seed)
    return [choose_head(found, targets.to(found), fold, regression).loss for found in features]


def judged_by(y: np.ndarray) -> np.ndarray:
    """Numbers of the examples that choose a share, sorted: all of a class that has several, or as many as are
    enough; none, if fewer than two classes have.

    Args:
        y: labels ``[n]``.

    Example:
        >>> judged_by(np.array(["a", "b", "c", "a", "b"])).tolist()
        [0, 1, 3, 4]
    """
    labels, counts = np.unique(y, return_counts=True)
    several = labels[counts > 1]
    if len(several) < 2:
        return np.array([], np.int64)
    each = max(2, JUDGED // len(several))
    return np.sort(np.concatenate([np.flatnonzero(y == label)[:each] for label in several]))
